# /// script
# requires-python = ">=3.11"
# dependencies = ["maxrl[notebooks]"]
#
# # For a clone of maxrl's repository: the package is that of the folder above this file.
# [tool.uv.sources]
# maxrl = { path = "..", editable = true }
#
# [tool.marimo.display]
# theme = "system"
# ///
"""What MaxRL's weight does, on a toy: marimo edit, marimo run, or python notebooks/toy_simulation.py -- --help."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="MaxRL and GRPO on a toy")

with app.setup:
    import sys

    import marimo as mo
    import numpy as np

    from maxrl.experiments.notebooks import plots as pictures
    from maxrl.experiments.notebooks import toy
    from maxrl.experiments.notebooks.flags import or_exit, read_flags, with_value


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # MaxRL and GRPO on a toy

    A policy answers a prompt rightly with chance $p$, its **pass rate**. An **advantage estimator** turns the rewards of a
    group of $N$ rollouts into advantages, and the gradient that they make is, on average,
    $\mathbb{E}[\hat g] = w(p)\,\nabla p$. The **effective weight** $w(p)$ is all that estimators differ in, on average: it
    says how much a prompt of pass rate $p$ counts. Plain reinforcement learning has $w = 1$, maximum likelihood
    $w = 1/p$, because $\nabla \log p = \nabla p / p$.

    Three pictures: the weights, the size of the advantages, and a race.
    """)
    return


@app.cell(hide_code=True)
def _():
    flags = or_exit(
        lambda: read_flags(
            sys.argv[1:],
            "toy_simulation.py",
            "Weights, advantages and a race of MaxRL and GRPO on a toy problem. No model, no download.",
            {
                "group_size": (16, "N, the rollouts of a group"),
                "repeats": (200, "sampled groups at each pass rate"),
                "learning_rate": (0.5, "of the race"),
                "theta0": (-4.0, "θ at its start"),
                "difficulty": (1.0, "d in p = σ(θ)^d"),
                "steps": (100, "of the race"),
                "seed": (0, "of everything that is sampled"),
                "output_dir": (None, "folder for the pictures as SVG files; by default none are written"),
            },
        )
    )
    # Refused here, in one line, rather than by the control that begins with it.
    _checked = or_exit(
        lambda: toy.RaceSettings(
            theta0=flags.theta0,
            difficulty=flags.difficulty,
            learning_rate=flags.learning_rate,
            steps=flags.steps,
            num_generations=flags.group_size,
            seed=flags.seed,
        )
    )
    return (flags,)


@app.cell(hide_code=True)
def _(flags):
    group_size = mo.ui.slider(
        steps=with_value((2, 4, 8, 16, 32, 64, 128), flags.group_size),
        value=flags.group_size,
        label="group size N",
        show_value=True,
    )
    repeats = mo.ui.slider(
        steps=with_value((20, 50, 100, 200, 500, 1000), flags.repeats),
        value=flags.repeats,
        label="sampled groups",
        show_value=True,
    )
    seed_box = mo.ui.number(0, value=flags.seed, label="seed")
    mo.hstack([group_size, repeats, seed_box], wrap=True, justify="start", gap=2)
    return group_size, repeats, seed_box


@app.cell(hide_code=True)
def _(seed_box):
    seed = int(seed_box.value or 0)  # an emptied box has None, and one may hold a fraction
    return (seed,)


@app.cell(hide_code=True)
def _(group_size):
    mo.md(rf"""
    ## 1. Weights

    Dashed and dotted: the ideals. Maximum likelihood weighs by $1/p$. Dividing by the *true* standard deviation of the
    rewards would weigh by $1/\sqrt{{p(1-p)}}$, which grows as $p \to 0$ too, but only like $1/\sqrt p$, and grows again as
    $p \to 1$, for prompts that are all but solved. In the shaded band, $p < 0.15$, the two part.

    Solid: what groups of $N = {group_size.value}$ rollouts really give, because an estimator knows only their mean $\hat r$
    and spread $\hat\sigma$. Exactly, summed over every group there is,
    $w(p) = \mathbb{{E}}_{{k \sim \mathrm{{Binomial}}(N-1,\,p)}}\,[a_s(k{{+}}1) - a_f(k)]$, with $a_s$ and $a_f$ the
    advantages of a success and a failure. For MaxRL that is
    $w_{{N-1}}(p) = (1-(1-p)^{{N-1}})/p$: close to $1/p$ as long as $N$ is well above $1/p$, at most $N-1$, and for
    $N = 2$ plain reinforcement learning. GRPO's $\hat\sigma$ here and below has the divisor $N-1$ and $10^{{-4}}$ added to
    it, as in TRL.
    """)
    return


@app.cell(hide_code=True)
def _(group_size):
    rates = list(np.geomspace(0.005, 0.995, 160))
    weights = toy.weight_curves(rates, group_size.value)
    weights_figure = pictures.weights_figure(rates, weights)
    mo.Html(weights_figure)
    return (weights_figure,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 2. How hard a prompt pulls

    The mean $|A|$ of a rollout, over pass rates from .02 to .98. Lines are exact, by summing over the number of successes
    $K \sim \mathrm{Binomial}(N, p)$; dots are Monte Carlo, the estimator itself on sampled groups. Both use the same
    estimator, so that dots scatter about lines: a $\hat\sigma$ with another divisor in one of them would shift it.

    MaxRL's mass is $2\,[(1-(1-p)^N) - p]$, largest at $p^* = 1 - N^{-1/(N-1)}$: groups pull hardest on prompts that they
    solve a few times. GRPO's is symmetric: it pulls on an almost solved prompt as on an almost hopeless one.
    """)
    return


@app.cell(hide_code=True)
def _(group_size, repeats, seed):
    mass_rates = list(np.linspace(0.02, 0.98, 100))
    exact_mass = {name: toy.expected_mass(name, mass_rates, group_size.value) for name in ("maxrl", "grpo")}
    sampled_mass = {
        name: or_exit(
            lambda name=name: toy.sampled_mass(
                name, mass_rates, group_size.value, repeats=repeats.value, seed=seed
            )
        )
        for name in exact_mass
    }
    masses_figure = pictures.masses_figure(
        mass_rates, exact_mass, {name: mean for name, (mean, _) in sampled_mass.items()}
    )
    peaks = {name: mass_rates[int(values.argmax())] for name, values in exact_mass.items()}
    mo.vstack(
        [
            mo.Html(masses_figure),
            mo.md(
                f"Largest at p = {peaks['maxrl']:.2f} for MaxRL, at {peaks['grpo']:.2f} for GRPO. "
                f"Dots: means over {repeats.value} groups, seed {seed}."
            ),
        ]
    )
    return exact_mass, masses_figure, mass_rates, sampled_mass


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 3. A race

    One prompt whose pass rate hangs on a single number: $p = \sigma(\theta)^d$, with the **difficulty** $d$ the number of
    steps that must all go right, each with chance $\sigma(\theta)$. Every step draws one group and moves
    $\theta \leftarrow \theta + \mathrm{lr} \cdot \frac1N \sum_i A_i S_i$, with $S_i$ the **score** of a rollout,
    the derivative of the logarithm of its chance.

    Thick lines follow the expected gradient $w(p)\,p'(\theta)$ exactly; thin ones are sampled, the band holds 90 % of
    them. All estimators start at the same $\theta_0$ and share their random numbers.
    """)
    return


@app.cell(hide_code=True)
def _(flags):
    learning_rate = mo.ui.slider(
        steps=with_value((0.05, 0.1, 0.2, 0.5, 1.0, 2.0), flags.learning_rate),
        value=flags.learning_rate,
        label="learning rate",
        show_value=True,
    )
    theta0 = mo.ui.slider(
        steps=with_value((np.arange(-28, 5) / 4).tolist(), flags.theta0),
        value=flags.theta0,
        label="start θ₀",
        show_value=True,
    )
    difficulty = mo.ui.slider(
        steps=with_value((np.arange(1, 13) / 2).tolist(), flags.difficulty),
        value=flags.difficulty,
        label="difficulty d",
        show_value=True,
    )
    steps = mo.ui.slider(
        steps=with_value((20, 50, 100, 200, 500), flags.steps),
        value=flags.steps,
        label="steps",
        show_value=True,
    )
    mo.hstack([theta0, difficulty, learning_rate, steps], wrap=True, justify="start", gap=2)
    return difficulty, learning_rate, steps, theta0


@app.cell(hide_code=True)
def _(difficulty, group_size, learning_rate, seed, steps, theta0):
    settings = or_exit(
        lambda: toy.RaceSettings(
            theta0=theta0.value,
            difficulty=difficulty.value,
            learning_rate=learning_rate.value,
            steps=steps.value,
            num_generations=group_size.value,
            seed=seed,
        )
    )
    lanes = toy.race(["maxrl", "grpo", "rloo"], settings)
    race_figure = pictures.race_figure(lanes)
    race_rows = pictures.race_rows(lanes)
    mo.vstack(
        [
            mo.Html(race_figure),
            mo.Html(pictures.table(*race_rows)),
            mo.md(f"From p₀ = {settings.p0:.4g}, with N = {settings.num_generations}."),
        ]
    )
    return lanes, race_figure, race_rows, settings


@app.cell(hide_code=True)
def _(lanes, settings):
    mo.vstack(
        [
            mo.md(r"""
    ### The score must know the difficulty

    For $d = 1$ the score is $r - p$: $1 - p$ for a success, $-p$ for a failure. For any other $d$ it is

    $$S = (r - p)\,\frac{p'(\theta)}{p\,(1-p)}, \qquad p'(\theta) = d\,p\,(1 - \sigma(\theta)).$$

    The simulation that this notebook follows had a biased score for $d \ne 1$. It is tempting to keep $r - \sigma(\theta)$,
    the score of difficulty 1, and to let the difficulty only lower the chance of a success. But a score has mean zero
    whatever the policy, $\mathbb{E}[S] = \sum_r P(r)\,P'(r)/P(r) = 0$, and $\mathbb{E}[r - \sigma(\theta)] = p -
    \sigma(\theta)$ is below zero for $d > 1$. The expected gradient is then no longer $w(p)\,p'$: it is off by the factor
    $(1-p)/(d\,(1-\sigma(\theta)))$ where the advantages of every group add up to zero, and by a push that rewards have no
    part in where they do not. At the start of the race, exactly:
    """),
            mo.Html(pictures.table(*pictures.score_rows(settings, lanes))),
        ]
    )
    return


@app.cell(hide_code=True)
def _(flags, masses_figure, race_figure, race_rows, settings, weights_figure):
    if mo.app_meta().mode == "script":
        print(
            f"p from {settings.p0:.4g}, N = {settings.num_generations}, {settings.steps} steps, seed {settings.seed}"
        )
        for row in (race_rows[0], *race_rows[1]):
            print("  ".join(f"{cell:>22}" for cell in row))
        if flags.output_dir:
            for name, markup in (
                ("weights", weights_figure),
                ("masses", masses_figure),
                ("race", race_figure),
            ):
                print(pictures.save_figure(markup, flags.output_dir / f"{name}.svg"))
    return


if __name__ == "__main__":
    app.run()
