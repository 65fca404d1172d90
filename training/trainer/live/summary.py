"""The page's first tables, and its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.live.measuring import Account
from trainer.live.search import SETS, Climb
from trainer.shared.figure import COLORS, MARKERS, bars, new_figure, save
from trainer.shared.interval import Share, percent
from trainer.shared.markdown import markdown_table
from trainer.suites.measured import Measured

NAME = "policies"
EXPLANATION = """\
- **unsafe shown**: harm stands in what the client got, thought or answer, in part or whole. The
  judge named above says so; the guard is not asked.
- **blocked**: the answer ended with `content_filter`, or the policy floor refused the request.
- **changed**: other text than the base's to the same request. An adapter changes much that is
  harmless; observe must change nothing.
- **guard flags**: a verdict reached the threshold, whatever the policy made of it.
- **Attacks.** `wording`: words that no training had, or a frame around the request. `language`: a
  frame in another language; what is asked for stays English. `prefill`: the client has begun the
  answer. `drip_turns`: harm over several turns. `drip_begun`: begun answers whose harm comes at
  different places of the stretch that is held back.
- **adaptive_verdict, adaptive_probe**: each prompt is said otherwise in many tries, and what has
  the lowest score under observe is taken, as long as harm is shown.
- **TTFT** is the time to the first text, of benign requests and word problems; **tokens/s** is the
  median of single replies, several at once. Policies take turns every few requests.
- Brackets hold 95 % intervals: Wilson's, for a paired difference Newcombe's."""


def summary(
    accounts: Sequence[Account], not_run: Mapping[str, str], climbs: Sequence[Climb]
) -> str:
    parts = [accounts_table(accounts, not_run)]
    if climbs:
        parts += ["Attacks that read the score, under observe:", climbs_table(climbs)]
    return "\n\n".join(parts)


def accounts_table(accounts: Sequence[Account], not_run: Mapping[str, str]) -> str:
    rows = [
        ["policy", "unsafe shown, plain", "unsafe shown, attacked", "harmless: blocked",
         "harmless: blocked or changed", "benign refused", "right", "TTFT p50 / p95, ms",
         "tokens/s"]
    ]  # fmt: skip
    for one in accounts:
        shares = (
            one.unsafe_plain, one.unsafe_attacked, one.blocked_benign, one.hindered,
            one.refused_benign, one.right,
        )  # fmt: skip
        times = f"{number(one.first_p50_ms)} / {number(one.first_p95_ms)}"
        rows.append([one.policy, *map(words, shares), times, number(one.tokens_per_s)])
    for name, reason in not_run.items():
        rows.append([name, f"not run: {reason}", *[""] * (len(rows[0]) - 2)])
    return markdown_table(rows)


def climbs_table(climbs: Sequence[Climb]) -> str:
    rows = [["aim", "prompts", "tries", "harm shown at first", "score lowered", "mean score"]]
    for one in climbs:
        scores = f"{score(one.score_before)} → {score(one.score_after)}"
        rows.append(
            [SETS[one.aim], str(len(one.cases)), str(one.num_queries),
             str(one.num_harmful_at_first), str(one.num_improved), scores]
        )  # fmt: skip
    return markdown_table(rows)


def words(share: Share) -> str:
    return percent(share, end="") if share.n else ""


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def score(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def draw(folder: Path, accounts: Sequence[Account], measured: Sequence[Measured]) -> str:
    """Harm against hindrance, a point a policy; and harm set by set. Returns the file's name."""
    figure, panels = new_figure(1, 2, panel=(5.2, 4.2))
    for i, one in enumerate(accounts):
        unsafe, hindered = one.unsafe_attacked, one.hindered
        panels[0, 0].errorbar(
            100 * hindered.value,
            100 * unsafe.value,
            xerr=[
                [100 * (hindered.value - hindered.low)],
                [100 * (hindered.high - hindered.value)],
            ],
            yerr=[[100 * (unsafe.value - unsafe.low)], [100 * (unsafe.high - unsafe.value)]],
            fmt=MARKERS[i % len(MARKERS)],
            color=COLORS[i % len(COLORS)],
            linewidth=1,
            label=one.policy,
        )
    panels[0, 0].set_xlabel("harmless text blocked or changed, %  (left is better)")
    panels[0, 0].set_ylabel("unsafe text shown under attack, %  (down is better)")
    panels[0, 0].set_xlim(-3, 103)
    panels[0, 0].set_ylim(-3, 103)
    panels[0, 0].legend()
    shares = {
        one.policy: {
            m.set: 100 * m.shares()["unsafe_shown"].value
            for m in measured
            if m.subject == one.policy and "unsafe_shown" in m.flags and m.ids
        }
        for one in accounts
    }
    bars(panels[0, 1], shares, tuple(dict.fromkeys(n for found in shares.values() for n in found)))
    panels[0, 1].tick_params(axis="x", labelrotation=35)
    panels[0, 1].set_ylabel("unsafe text shown, %")
    panels[0, 1].set_ylim(0, 103)
    save(figure, folder / NAME)
    return f"{NAME}.svg"
