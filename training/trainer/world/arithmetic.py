"""One step of arithmetic, written column by column as the model is to write it in its thought.

Digits are read from the right; a column that carries or borrows shows it in the next one, so each
column needs two digits and one bit, which a very small model can learn exactly.

    345 + 278   ->  345+278: 5+8=13 4+7+1=12 3+2+1=6 so 623
    523 - 278   ->  523-278: 13-8=5 12-7-1=4 5-2-1=2 so 245
    238 * 4     ->  238*4: 8*4=32 3*4+3=15 2*4+1=9 so 952
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Operator = Literal["+", "-", "*"]


@dataclass(frozen=True)
class Step:
    """`left operator right`; right is one digit for "*", and left >= right for "-"."""

    left: int
    operator: Operator
    right: int

    @property
    def result(self) -> int:
        match self.operator:
            case "+":
                return self.left + self.right
            case "-":
                return self.left - self.right
            case "*":
                return self.left * self.right


def digits_from_right(number: int, width: int) -> list[int]:
    return [int(digit) for digit in reversed(str(number).zfill(width))]


def columns(step: Step) -> list[str]:
    """The columns of one step, least significant first."""
    width = max(len(str(step.left)), len(str(step.right))) if step.operator != "*" else 0
    upper = digits_from_right(step.left, width)
    lower = digits_from_right(step.right, width)
    written: list[str] = []
    carry = 0
    for position, digit in enumerate(upper):
        if step.operator == "+":
            carried = f"+{carry}" if carry else ""
            total = digit + lower[position] + carry
            written.append(f"{digit}+{lower[position]}{carried}={total}")
            carry = total // 10
        elif step.operator == "-":
            carried = f"-{carry}" if carry else ""
            borrow = int(digit - lower[position] - carry < 0)
            raised = digit + 10 * borrow
            written.append(
                f"{raised}-{lower[position]}{carried}={raised - lower[position] - carry}"
            )
            carry = borrow
        else:
            carried = f"+{carry}" if carry else ""
            total = digit * step.right + carry
            written.append(f"{digit}*{step.right}{carried}={total}")
            carry = total // 10
    return written


def work_out(step: Step) -> str:
    """One line of thought."""
    left, right = step.left, step.right
    return f"{left}{step.operator}{right}: {' '.join(columns(step))} so {step.result}"
