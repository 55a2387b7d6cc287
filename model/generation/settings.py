"""How answers are chosen; each setting means what it means in `transformers`' generate. Torch-free."""

from dataclasses import dataclass
from enum import Enum

from model.config import Problem


class EarlyStopping(Enum):
    """When a beam search ends before its answers are as long as they may be, once it has num_beams that are whole."""

    likely = "likely"
    "Where the best that is not whole, as long as it is now, scores below the worst that is (`False` in transformers)."
    full = "full"
    "At once (`True`)."
    never = "never"
    'Where no length that it may reach would make it score above (`"never"`).'


MAX_BEAMS = 1000
"Each holds a cache of its own."
MAX_LENGTH_PENALTY = 10.0
"Beyond it, and below its negative, a power of a length is no number that a score can be divided by."


@dataclass(frozen=True)
class Generation:
    """How the answer to a prompt is chosen."""

    max_new_tokens: int = 64
    "Length of an answer, in tokens, at most; >= 1."
    temperature: float = 0.0
    "Divides the logits that are sampled from; 0: always the likeliest token; >= 0."
    top_k: int = 0
    "Sample among so many of the likeliest tokens, and those as likely as the last (Fan et al. 2018); 0: among all."
    top_p: float = 1.0
    "Sample among the likeliest tokens that together hold this probability (Holtzman et al. 2020); (0, 1]."
    min_p: float = 0.0
    "Sample among tokens that are at least this times as likely as the likeliest (Nguyen et al. 2024); [0, 1]."
    repetition_penalty: float = 1.0
    "Logits of tokens that were there before are divided by it, or times it below 0 (Keskar et al. 2019, 4.1); > 0."
    num_beams: int = 1
    "Answers that are followed at once, of which the best is given; 1: no beam search; 1 to 1,000."
    length_penalty: float = 1.0
    "An answer of n tokens scores log p / n^length_penalty: above 0 prefers longer answers; -10 to 10."
    early_stopping: EarlyStopping = EarlyStopping.likely
    "When a beam search ends."
    stop: tuple[str, ...] = ()
    "Texts that end an answer, and are its end."
    seed: int = 0
    "Row i samples from a generator of its own, seeded with seed + i; 0 to 2^63 - 1."

    def problems(self) -> list[Problem]:
        """Everything wrong with these values."""
        return self._out_of_range() + self._not_together()

    def _out_of_range(self) -> list[Problem]:
        infinite = float("inf")
        ranges = [
            ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
            ("temperature", 0 <= self.temperature < infinite, "0 or more; 0 is greedy"),
            ("top_k", self.top_k >= 0, "0 or more; 0 is all tokens"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "0 to 1"),
            ("repetition_penalty", 0 < self.repetition_penalty < infinite, "above 0; 1 is none"),
            ("num_beams", 1 <= self.num_beams <= MAX_BEAMS, f"1 to {MAX_BEAMS:,}; 1 is no beam search"),
            ("length_penalty", abs(self.length_penalty) <= MAX_LENGTH_PENALTY, "-10 to 10"),
            ("stop", all(self.stop), "texts of one character or more"),
            ("seed", 0 <= self.seed < 1 << 63, "0 or more, below 2^63"),
        ]
        return [
            Problem(name, f"{name} is {getattr(self, name)}", allowed, f"set {name} within this range")
            for name, holds, allowed in ranges
            if not holds
        ]

    def _not_together(self) -> list[Problem]:
        if self.num_beams <= 1 or self.temperature == 0:
            return []
        what = (
            f"num_beams is {self.num_beams} and temperature is {self.temperature}, and beams are not sampled"
        )
        return [Problem("num_beams", what, "1 where temperature is above 0", "leave one of the two out")]
