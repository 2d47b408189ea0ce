"""The English alternatives of each cue; `cues` says what they are matched against."""

from collections.abc import Mapping

EN: Mapping[str, str] = {
    "anxiety": (
        r"anxi\w+|worr\w+|nervous\w*|scar(?:ed|y)|afraid|frighten\w*|terrif\w+|panic\w*|stress\w*|overwhelm\w*"
        r"|pressure|dread\w*|fear\w*|freak\w* out|not confident|no confidence"
        r"|(?:lack|lost|losing)(?: my| of)? confidence|running out of time|(?:not|isn't|n't have) enough time"
        r"|n't (?:finish|make it|be ready)|embarrass\w*|intimidat\w+|can't sleep|desperate|insecure|too shy"
        r"|ashamed|stomach (?:hurts|aches)|feel(?:ing)? sick|laugh\w* at|mock\w*|judg\w+ me|nightmares?"
        r"|shak(?:y|ing)|cry(?:ing)?|hopeless|not good enough|stupid|dumb|doomed|screwed|can't cope"
        r"|hate (?:presenting|speaking|talking)|(?:falling|far|so|really|way) behind|no time|last minute|tense"
        r"|uneasy|unprepared|what if (?:i fail|everyone|nobody|no one|they|people)|embarrass\w*"
        r"|mess (?:it|this) up|let \w+ down|fail(?:ing)? (?:the|this|my)|dizzy|knot in my"
        r"|heart (?:is )?(?:races|racing|pounding)|blank(?:ed|ing)? out|mind goes blank|pressured|rushed"
        r"|too late|out of time|annoy (?:people|them)|humiliat\w+|helpless|useless|can't breathe|losing sleep"
        r"|freaks? me out|tearing up"
    ),
    "calm": (
        r"(?:not|n't|no longer|never|without|less|stopped) (?:\w+ )?(?:worr\w+|anxi\w+|nervous|scared|afraid"
        r"|stressed|panic\w*)|relieved|calm\w*"
    ),
    "excitement": (
        r"excit\w+|can't wait|thrill\w+|amazing|awesome|fantastic|love|happy|glad|delighted|looking forward"
        r"|so cool|great fun|so much fun|having fun|cool|brilliant|great news|yay|wow|enjoy\w*"
    ),
    "interest": (
        r"interest\w*|curious|curiosity|fascinat\w+|wonder\w*|intrigu\w+|keen|passionate"
        r"|want to (?:know|learn|understand)"
    ),
    "stress": (r"very|really|so|extremely|totally|completely|super|incredibly|terribly"),
    "softening": (r"a bit|a little|slightly|somewhat|kind of|sort of"),
    "looping": (
        r"in circles|(?:round|around) and around|going (?:round|around)|over and over|dead end"
        r"|(?:hit|hitting) a wall|(?:going|goes|getting) nowhere|square one|where (?:i|we) started"
        r"|in a (?:loop|rut)|out of ideas|no new ideas|keeps? (?:coming|going|getting) back"
        r"|(?:keep|kept|keeps|always|again|still|stuck)(?: \w+){0,5} same"
        r"|same (?:\w+ ){1,5}(?:again|over|every time|back)"
        r"|end(?:s|ed|ing)? up (?:with|at|back|in|where|saying)|every time (?:i|we) (?:think|try|write|start)"
        r"|no matter (?:how|what)|(?:exactly|precisely) the same|(?:at|in|to) the same (?:point|place|spot)"
        r"|everything (?:i|we) (?:come up with|write|think of|try)|nothing new"
        r"|keeps? (?:repeating|rewriting|ending|returning|asking|circling|thinking|writing)|on repeat|loop\w*"
        r"|stuck in|repeat\w* myself|treadmill|again and again|all my ideas (?:are|sound|look)"
        r"|whatever (?:i|we) (?:write|do|try|say|think)|(?:been|still) (?:on|at|with) (?:this|the) same"
        r"|same (?:paragraph|page|sentence|line|draft|argument|answer|result|wall|ideas?)(?: for| as| again)"
        r"|no (?:further|closer)|not getting anywhere|back (?:again|and forth)|still (?:here|stuck)"
        r"|for (?:days|weeks|hours|ages) now"
    ),
    "perspective": (
        r"(?:an|any)?other (?:way|angle|perspective|side|view|viewpoint|lens)\w*"
        r"|different (?:way|angle|perspective|view|viewpoint|lens)\w*|one-?sided"
        r"|fresh (?:eyes|look|view|ideas?)|new (?:angle|perspective|way of|viewpoint)"
        r"|(?:see|look at) (?:it|this|things) differently|narrow-minded|my own bias\w*|preconce\w+"
        r"|point of view|unoriginal|cliche\w*|predictable|counter-?arguments?|critici[sz]\w+|critics?"
        r"|devil's advocate|blind spots?|overlook\w*|missing something|outside the box|more original"
        r"|originality|different (?:approach|explanation|take)|disagree\w*|(?:too )?subjective"
        r"|alternative (?:view|explanation|way)\w*|other explanations?"
        r"|already (?:says|been said|been done|knows?|known)|already (?:believed|believe|thought|decided)"
        r"|only (?:looked|asked|talked|listened|heard|read|collected|have|see|considered) (?:\w+ ){0,4}(?:side"
        r"|who agree|people like me|opinions|view)|other people's"
        r"|from (?:\w+ ){0,3}(?:viewpoint|standpoint|perspective|side)|think differently"
        r"|new (?:lens|light|idea)|same as everyone|everyone else's|stereotyp\w+"
    ),
    "contradiction": (
        r"contradict\w*|(?:opposite|reverse) (?:of|to|from|result)"
        r"|(?:not|n't|never|none of)(?: [\w']+){0,6} (?:expected|predicted|hoped|thought)"
        r"|(?:not|n't|none of)(?: [\w']+){0,6} way i|unexpected(?:ly)?|disprov\w+|refut\w+"
        r"|prov\w+ (?:me|it|my \w+) wrong"
        r"|(?:hypothesis|prediction|theory|guess) (?:was|is|were|seems|turned out)(?: to be)? (?:wrong|false"
        r"|off|mistaken)|experiments? (?:failed|didn't work)|failed experiments?"
        r"|(?:different|differently) (?:from|to|than) (?:what )?(?:i|we)? ?(?:had )?(?:expected|predicted|thought)"
        r"|can't be right"
        r"|(?:doesn't|don't|didn't|does not|do not) (?:fit|match|agree|support|add up|back up|behave|behave as)"
        r"|(?:other|wrong) way (?:a)?round|surpris\w+|weird|strange|odd (?:results?|data)"
        r"|(?:down|up|less|more) instead|conflict\w*|inconsistent|makes no sense|(?:was|were) supposed to"
        r"|should have (?:gone|grown|been|increased|decreased|worked|shown)|backfired"
        r"|turned out (?:wrong|differ\w+|the)|(?:proved|proven|was|were|been) wrong|reversed"
        r"|no (?:effect|difference) at all|completely different|reverse|contrary"
        r"|oppos(?:ed|es) (?:what|my|the)|disagrees? with (?:my|the|what)|doesn't (?:look|come out)"
        r"|nothing (?:happened|changed)|not what|goes against|unlike (?:what|the)"
    ),
    "decision": (
        r"(?:options|candidates|alternatives) (?:are|is|left|for)|(?:could|might) [^.?!]{1,60} or"
        r"|(?<!, )which (?:one|of|is|are|would|should|do|option|topic|method|\w+ (?:is|would|should|do|works?"
        r"|fits?|suits?))"
        r"|(?:can't|cannot|couldn't|can not|need to|have to|must|help me|trying to|how to|how do i|hard to) "
        r"(?:decide|choose|pick|make up my mind)|torn|undecided"
        r"|(?:choose|decide|choice|choosing|deciding) between|whether (?:to|i should|we should)"
        r"|should (?:i|we) [^.?!]{1,60} or|(?:i|we) (?:choose|pick|go with)|better (?:to|for|choice|option)"
        r"|versus|vs|hesitat\w+ between|dilemma|settle on|agree on (?:one|a|the|which|what)"
        r"|(?:is|would) it (?:be )?(?:better|best|smarter|easier|wiser|worth) (?:to|if|switching)"
        r"|i like (?:all|both)|both (?:sound|seem|look|are) \w+|equally|(?:i'd|i would|we'd) (?:rather|prefer)"
        r"|prefer\w*|on the fence|pros and cons|trade-?offs?|go(?:ing)? (?:with|for) [^.?!]{1,40} or"
        r"|second thoughts|either [^.?!]{1,40} or|stick (?:with|to) [^.?!]{1,40} or|make up (?:my|our) minds?"
        r"|final choice|choos\w+ (?:one|a|the|my|our)|decision|vote|voting"
        r"|what would you (?:use|pick|choose|do|go)|part of me|one hand|choice"
        r"|two (?:minds|options|ideas|choices)"
        r"|(?:first|second|latter|former) (?:one|option|idea) (?:or|better)|weigh\w*"
        r"|compar\w+ (?:the )?(?:two|three|options)"
    ),
    "options": (
        r"(?:options|choices|candidates|alternatives|possibilities)(?=[^.?!]{0,30}(?::| are\b))"
        r"|(?:my|four|five|six|seven|eight|several|[4-9]) (?:\w+ )?(?:ideas|topics|themes|options|choices|questions)"
        r"|(?:thinking about|considering)(?=(?: [^.?!,]{1,60},){3})"
    ),
    "too_broad": (
        r"too (?:broad|big|wide|large|general|vague|ambitious|abstract|much to cover)"
        r"|(?:too|so|far too|way too) many (?:\w+ )?(?:topics|ideas|things|questions|directions|variables"
        r"|themes|aspects|parts|interests)|narrow(?:ing|er)?(?! mind)"
        r"|more (?:specific|focused|concrete|manageable)|(?:far )?more \w+ than (?:i|we) can"
        r"|all over the place|zoom in|focus (?:it|this|my|on one|on a single)|unmanageable|too much for one"
        r"|cut (?:it|this|things) down|scale (?:it|this|things)? ?(?:down|back)"
        r"|(?:how|where) (?:do|should|can) (?:i|we) limit|need to cut|cut (?:down|back|some|it|half)|trim\w*"
        r"|leave (?:things |something |stuff )?out|too much (?:information|material|stuff|to)"
        r"|so much (?:to cover|information|material)|pages long|dozens of|hundreds of (?:questions|ideas)"
        r"|at once|can't (?:cover|fit)|limit (?:it|this|myself|my|the topic)|boil\w* (?:it|this) down"
        r"|make (?:it|this|my \w+) smaller|simplif\w+|reduce (?:it|the number|my)|scope|spread (?:too )?thin"
        r"|bit off more|what to leave|one (?:small )?part of|(?:too|so) much (?:i|we|one) (?:could|can|want)"
        r"|(?:too|so) many|(?:endless|countless|loads of|tons of) \w+|where to (?:stop|draw the line)"
        r"|keeps? (?:growing|expanding|getting (?:bigger|longer|larger))"
        r"|getting (?:too )?(?:big|long|out of hand)|sprawl\w*|unfocused|more precise|pin (?:it|this) down"
        r"|shorten|how wide|fuzzy"
    ),
    "wide": (
        r"everything|everyone|all of (?:it|them|these|this)|them all|it all|(?:whole |entire )?world|worldwide"
        r"|global\w*|all kinds|every (?:kind|aspect|part|country)|society|humanity|entire"
        r"|whole (?:country|planet|ocean|town|history)|climate change|poverty|hunger|universe"
        r"|all (?:the )?(?:aspects|causes|effects|problems)|earth"
        r"|all (?:pollution|animals|plants|countries|types|sorts|ages|sciences|religions)|future|technology"
        r"|humans?|humankind|mankind|civili[sz]ations?|every (?:single|species|school|type|animal|nation)"
        r"|all (?:of )?(?:history|science|society)|all over|each and every|any and all|life itself"
        r"|basically all|whole (?:of|thing|subject|field)|all about|in general|every detail"
        r"|the (?:brain|universe|economy|internet|ocean|internet)|nations|cultures"
    ),
    "narrow": (
        r"only|just one|a single|in (?:my|our) (?:school|class|town|street|neighbou?rhood|garden)"
        r"|(?:my|our) (?:school|class)|specifically|(?:i|we) (?:narrowed|limited)"
    ),
    "path": (
        r"where (?:do|should|can|to|would|could|might)(?: i| we| one)? ?(?:even )?(?:start|begin)"
        r"|how (?:do|should|can|would)(?: i| we)(?: even| best)? (?:start|begin|go about|proceed|approach"
        r"|get started|move on|continue)|next (?:steps?|stages?|phases?)|(?:the|what|which) steps"
        r"|step[- ]by[- ]step|road ?map|(?:do|comes?|goes?|happens?|tackle|read) (?:first|next|after)"
        r"|first steps?|what (?:should|do|can) (?:i|we) do (?:first|next|now|after)|what order"
        r"|from (?:the )?(?:start|beginning) to|go(?:ing)? about"
        r"|(?:how to|outline|draft) (?:a )?(?:plan|proceed)"
        r"|(?:make|need|give me|have no|without|draw up|help with) a plan|timeline|walk me through|guide me"
        r"|how to (?:start|begin|get started|proceed)|(?:now|so) what|what now|lay (?:it )?out"
        r"|(?:week|day|month) by (?:week|day|month)|how (?:long|much time) (?:should|do|will|does|would)"
        r"|schedul\w+|checklist|to-?do list|what (?:do|should|would) (?:i|we) (?:need|prepare|bring)"
        r"|what to (?:prepare|do|bring)"
        r"|how to (?:prepare|set up|set it up|organi[sz]e|structure|conduct|run|carry out|approach|tackle|plan"
        r"|write (?:a|an|the|it|my))|from here|what's next|what comes|phases"
        r"|break (?:it|this|the \w+) (?:down|into)"
        r"|never (?:done|written|made|run|held|given|tried) (?:a|an|one|this|it|any)|no experience"
        r"|(?:my|our|the) first time|process (?:for|of|look)|in what order|(?:put|make) together (?:a|my|the)"
        r"|by when|plan(?:ning)? (?:out|it out|the rest|ahead|this|my|our)|sequence|timetable"
        r"|order (?:for|of|to|should)"
        r"|(?:turn|make|shape) (?:\w+ ){1,3}into a (?:report|poster|paper|talk|presentation)|become a"
        r"|milestones?|after (?:that|this),? (?:what|do)|how (?:does|will) (?:\w+ ){1,3}work from"
        r"|how far along|pace|by which date|kick off"
        r"|set(?:ting)? up (?:a|an|the|my) (?:experiment|study|test|survey)"
    ),
    "lost": (
        r"(?:i'm|i am|feel|feeling|totally|completely|a bit|really) lost|no idea (?:what|where|how)|no clue"
        r"|clueless"
        r"|(?:don't|do not|didn't) know (?:where|what to do|anything|how to (?:start|begin|do|go|plan))"
        r"|at a loss|in the dark|don't know how to (?:even|get|set|put|write|make)"
        r"|not sure (?:where|how) to (?:start|begin|go|get|even)|haven't a clue|where (?:i'm|i am|we're) going"
        r"|what i'm doing|what (?:we're|i'm) supposed to"
    ),
    "uncertainty": (
        r"(?:don't|do not|didn't|doesn't) (?:really |quite |fully )?(?:know|understand|get it|see (?:how|why|what))"
        r"|not (?:really |quite )?(?:sure|certain|clear)|unsure|uncertain|no idea|no clue|unclear|confus\w+"
        r"|can't (?:figure|work out|tell)|puzzl\w+|lost|don't get|baffl\w+|mystery|stumped|hard to say"
    ),
    "inertia": (
        r"put(?:ting)? (?:it|this|things|that|them|everything)? ?off|procrastinat\w*"
        r"|(?:haven't|have not|hasn't|still not|not yet|not even)(?: even| really| actually)? (?:started|begun"
        r"|done|written|sent|prepared|touched|opened|made|asked|begin)"
        r"|(?:can't|cannot|couldn't|unable to|hard to|struggl\w+ to)(?: seem to)? (?:get (?:myself|started"
        r"|going|moving)|make myself|bring myself|begin|start|motivate)|motivat\w+|lazy"
        r"|never (?:do|get|start|begin|manage)|(?:done|did|doing|do) nothing|nothing done"
        r"|blank (?:page|screen|document)|keep (?:avoiding|delaying|postponing)"
        r"|avoid\w* (?:it|this|starting|doing)|frozen|can't move|star(?:e|ing) at|close it again|bring myself"
        r"|don't feel like|not feel(?:ing)? like|no energy|too (?:tired|lazy|busy)|distract\w+"
        r"|(?:on|at) my phone|playing games|watching (?:videos|tv)"
        r"|instead of (?:working|studying|doing|writing)"
        r"|(?:not|without) (?:a single|one) (?:word|line|page|thing)"
        r"|didn't (?:do|start|write|begin) (?:it|any|a|my)|giv(?:e|ing) up|make a start"
        r"|(?:no|any|zero) progress|stall\w*|dragging|haven't \w+ (?:a|an|any|one|it|anything)"
        r"|have not \w+ (?:a|an|any|one|it|anything)|keep (?:saying|telling myself)"
        r"|nothing (?:gets|has been|is getting) done|i'll do it (?:later|tomorrow)|chicken\w* out"
        r"|back(?:ed|ing) out|start tomorrow|begin tomorrow|do it tomorrow|never ask"
        r"|skip(?:ped|ping)? (?:it|working|again)|ignor\w+ (?:it|this|my)"
        r"|haven't (?:looked|worked|moved|got|gotten|made|had)"
        r"|(?:all|whole) (?:day|week|weekend) (?:and|without|on)"
        r"|can't (?:seem|face|be bothered|focus|concentrate)|push(?:ed|ing)? it (?:back|away)|leave it"
        r"|zero (?:words|pages)"
    ),
    "intention": (r"(?:i'll|i will|we'll|we will|i'm going to|i am going to|let me|planning to|plan to) (?!never)\w+"),
    "action": (
        r"(?:i|we)(?:'ve| have)?(?: just| already| finally| also| now| then)? (?:interviewed|collected"
        r"|measured|read|wrote|written|made|built|tested|surveyed|asked|tried|found|finished|started|visited"
        r"|looked|compared|counted|recorded|analy[sz]ed|sent|talked|spoke|went|completed|drew|chose|picked"
        r"|decided|observed|ran|took|gathered|watched|checked|created|searched|learn(?:ed|t)|planned|emailed"
        r"|called|met|typed|printed|did|done(?! nothing))"
    ),
    "horizon": (
        r"(?:by|before|until|this|next|due) (?:the end of (?:the |this |next )?)?(?:monday|tuesday|wednesday"
        r"|thursday|friday|saturday|sunday|tomorrow|tonight|week|weekend|month|term|semester|year|summer|christmas)"
        r"|tomorrow|tonight|today|in (?:a|one|two|three|four|five|six|[0-9]{1,2}) (?:days?|weeks?|months?)"
        r"|(?:one|two|three|four|[0-9]{1,2}) (?:days?|weeks?|months?) left|deadline\w*"
    ),
    "blocker": (
        r"can't|cannot|couldn't|unable|not able|stuck|blocked|problem\w*|difficult\w*|hard (?:to|for)"
        r"|struggl\w+|no (?:time|money|access|equipment|space)|not enough|refus\w+|broken|broke|fail\w*"
        r"|too (?:expensive|far)|doesn't work|didn't work|won't (?:let|talk|answer|work)"
    ),
    "resource": (
        r"(?:have|has|got) access|access to|can (?:use|borrow|ask|lend)"
        r"|(?:will|can|could|offered to|happy to) help(?: me| us)?|available|lend\w*|borrow\w*"
        r"|(?:i|we) (?:have|own|got) (?:a|an|some|my|our|the|two|three|lots of|plenty of) (?!question|problem"
        r"|idea|hypothes)\w+"
    ),
    "goal": (
        r"(?:i|we)(?:'d| would)?(?: really)? (?:want|like|love|hope|plan|aim|intend|wish) to"
        r"|(?:i|we)(?:'m|'re| am| are) (?:trying|going|planning|hoping) to"
        r"|my (?:goal|aim|topic|theme|question|project|research question|project's question) (?:is|:)"
        r"|(?:i'm|i am|we're|we are) (?:researching|studying|investigating|exploring|looking into)"
    ),
    "purpose": (
        r"because|so that|in order to|my (?:purpose|reason|motivation)|the reason|the point (?:is|of)"
        r"|that's why|matters? (?:to|because)|to help"
    ),
}
