"""Student messages that were set aside before a cue was written, by the same author in the same hour: a mild judge.

Nothing was tuned on them. Labelled as in `labelled`.
"""

from tests.generate.agent.labelled import Labelled

HELD_OUT = (
    Labelled("統計でいう「有意差」って何ですか？", "理解深化"),
    Labelled("質的調査と量的調査の違いを教えてください。", "理解深化"),
    Labelled("ありがとうございます、よくわかりました。", "理解深化"),
    Labelled("調べ方もまとめ方も発表のやり方も全部わからないです。", "道筋提示"),
    Labelled("フィールドワークをしたことがないので、準備の手順が知りたいです。", "道筋提示"),
    Labelled("データは集まりました。ここから先、何をすればいいのか見えません。", "道筋提示"),
    Labelled("ずっと「ゴミを減らすには」ばかり考えていて、行き詰まりました。", "視点転換"),
    Labelled("友達に「その考え方は一方的だ」と言われました。違う立場から見るにはどうしたらいいですか。", "視点転換"),
    Labelled("うまくいかなかった実験しかなくて、これでは失敗の報告になってしまいます。", "視点転換"),
    Labelled("失敗するのが怖くて、インタビューのお願いのメールが送れません。", "行動活性化"),
    Labelled("間に合うか心配で、パソコンの前に座っても手が動きません。", "行動活性化"),
    Labelled("自信がなくて、アンケートを配るのをためらっています。", "行動活性化"),
    Labelled("調べたいことが多すぎます。", "絞り込み"),
    Labelled("世界中の貧困をなくす方法を研究したいです。", "絞り込み"),
    Labelled("SNSの影響を、友人関係も勉強も睡眠も買い物も政治もまとめて調べるつもりです。", "絞り込み"),
    Labelled("ポスターとスライドならどちらが伝わりますか？", "意思決定"),
    Labelled("実験を続けるべきか、テーマを変えるべきか悩んでいます。", "意思決定"),
    Labelled("文献調査とフィールドワークのどちらを先にやるか選びたいです。", "意思決定"),
    Labelled("I interviewed three shop owners yesterday and they all mentioned parking.", "理解深化"),
    Labelled("Is a sample of twenty people enough to say anything?", "理解深化"),
    Labelled("I'm curious about how my town got its name.", "理解深化"),
    Labelled("What should I do first, and what comes after that?", "道筋提示"),
    Labelled("I've never written a report before and I'm not sure how to structure it or what goes where.", "道筋提示"),
    Labelled("I'm lost. I don't know what to read, who to ask, or what to measure.", "道筋提示"),
    Labelled("My experiment showed the exact opposite of what I predicted.", "視点転換"),
    Labelled("None of my results came out the way I expected, so was it all for nothing?", "視点転換"),
    Labelled("My teacher says my argument is one-sided.", "視点転換"),
    Labelled("I can't get myself to begin writing.", "行動活性化"),
    Labelled("I'm worried my interview questions are stupid, so I haven't sent them.", "行動活性化"),
    Labelled("I have no motivation to open my notebook.", "行動活性化"),
    Labelled("How do I narrow this down?", "絞り込み"),
    Labelled("I have far more ideas than I can cover in one semester.", "絞り込み"),
    Labelled("I'm interested in music, health, memory, learning and ageing and want to cover them all.", "絞り込み"),
    Labelled("We could test soil, water, air or leaves. Which one should we pick?", "意思決定"),
    Labelled("There are two good locations and I have to choose one by tomorrow.", "意思決定"),
    Labelled("Help me choose between the library project and the garden project.", "意思決定"),
)
