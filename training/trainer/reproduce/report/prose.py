"""What a report says whatever its numbers: how to read them, and what they are not."""

from __future__ import annotations

from trainer.reproduce.findings.verdict import MARGIN

POINTS = f"{100 * MARGIN:.0f} points"
INTERVALS = f"""\
Brackets hold 95 % intervals. They cover the seeds (Student's t over the runs) and the prompts
(Wilson; Newcombe for differences on the same prompts); the two are added as independent errors.
All runs answer the same prompts, so more seeds do not make the prompts' part smaller. Prompts share
words and objects: the true uncertainty is larger still. A claim is *held* or *not held* when its
whole interval says so; "on par" means less than {POINTS} worse, and a "better" whose interval
lies within {POINTS} on both sides is not held. The frontier area is the share of the (safety,
word problems) plane that a configuration's epochs dominate. Many comparisons are made here and none
is corrected for it: about one in forty true equalities would look like a difference in a given
direction. A "best" epoch, and the best of the OrthoMerge variants, are picked on the very prompts
they are shown for, as on the paper's frontiers: read them as a little too good. A "last" epoch is
not picked."""

DIFFERENCES = """\
- **Size**: 1.7 million parameters, hidden 128, 8 layers, against 7 and 14 billion. Rank 64 is half
  of a hidden dimension here; of 5,120 it is 1.25 %.
- **World**: word problems, facts and how-to requests come from a small grammar. A skill here is a
  few hundred templates; AIME, GPQA, HumanEval and MBPP are not measured.
- **Base**: harmful compliance was trained back in after alignment, so a refusal is latent. A real
  distilled model loses its safety in other ways.
- **Judge**: a rule over the grammar, not Llama-Guard. Like the paper's judge it counts an answer
  that is no longer language as safe; "harmful refused in words" is therefore shown beside it.
- **Learning rate**: the paper uses 5e-5 everywhere. Here each configuration has its own sweep, on
  the first seed, by validation loss on held-out refusals; the lowest rate within a tolerance of the
  best loss is taken. That rule was made after test-split results of some sweeps had been seen: see
  "Learning rates" below, which also shows what the strict rule takes.
- **Layers**: early, middle and late are the same shares of the depth as the paper's, of 8 layers.
- **Not measured**: BeaverTails, Llama-8B, the base versions of the coding sets (figures 9 to 12 of
  the paper); values of β other than 1, as the paper found no difference."""

PLANES = """\
How to read the frontiers: safety_score to the right, what should be kept upwards, both shares from
0 to 1. The upper row shows that whole plane, the lower row the frame drawn in it. A number beside a
point is its epoch (λ for OrthoMerge); a line joins the epochs that no other of the configuration
beats in both, the others are faded; the dotted line is what the base can do."""

NOT_BLIND = """\
**The tolerance was not chosen blind.** The first rule was the strict one: the lowest loss itself.
Sweeps were run under it and looked at, with the results on the test split that they carry. The
rates it took destroyed the model: this was seen on 4 sweeps at first, and on 9 by the time of the
decision. Only then was the tolerance introduced, in knowledge of those results. All that is said
here about a configuration at its chosen rate rests on a rule that was found in this way.
`--tolerance 0` is the strict rule: it takes the sweeps that are there and trains what it needs
beyond them. The table shows for every sweep which rate the strict rule takes among those tried."""
