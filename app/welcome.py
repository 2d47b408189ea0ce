"""What a newcomer reads once the server is ready, in English and Japanese. The curl line works as pasted."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """What runs, and where; `token` is what to ask with: the demo user's, or a shell's name for one's own.

    `console` says whether there is a page to see it with.
    """

    url: str
    model: str
    remark: str
    database: str
    token: str = "demo"  # noqa: S105 - a user id, where it is a token at all
    console: bool = True

    def text(self) -> str:
        """Return the lines to print."""
        model = f"{self.model} ({self.remark})" if self.remark else self.model
        quote = '"' if self.token.startswith("$") else "'"
        pages = f"{self.url}/console  {self.url}/docs  " if self.console else ""
        return f"""
nursery-chat is ready at {self.url}  (Ctrl-C stops it / Ctrl-C で停止)

  model     {model}
  database  {self.database}

Ask it something / 質問してみましょう:

  curl -s {self.url}/chat -H {quote}Authorization: Bearer {self.token}{quote} -H 'Content-Type: application/json' \\
    -d '{{"message": "What is a hypothesis?", "page_id": "project-1"}}'

See how it is doing / 様子を見る:  {pages}{self.url}/readyz  {self.url}/metrics  {self.url}/ops/turns
"""
