"""What the paper leaves open of an agent, in one place."""

from __future__ import annotations

from typing import Any

#: Every number and choice of ours; they go into an agent's file, and another one's may differ.
ASSUMPTIONS: dict[str, Any] = {
    # --- precisions: the paper keeps residual and scalars in fp64. Here inner products are added up in fp64, alpha and
    # beta are divided there, and each check puts b - A x in fp64 in r's place; but between checks r and p, and what x
    # has gained, are stored in an action's formats, as most of the energy is that of moving vectors and the matrix
    # --- decisions
    "hold": 8,  # a decision stands until the residual comes below another bound, or, up to the iterations that
    # precision rises by, so many are over
    "hold_fp64": 16,  # of the first decision, if it is all fp64: fewer bits later on cost no directions
    # precision rises up to this iteration only, and up to such a share of n, as a rise costs all directions: the first
    # time, and again; and once an action was of less, in anything, it does not
    "rise_by": 17,
    "rise_share": [0.25, 0.0625],
    # --- the rule that an agent starts from (``by_rule``): its steps, counted from 0, are precisions of so many
    # significand "bits" of vectors, and of the matrix. The last step is for "few" unknowns, and for the first
    # decision with less room, n / sqrt(condition number), than "first", or with any, known, if log2 of the diagonal's
    # largest over its smallest entry is as large as "spread" says: under such a diagonal small eigenvalues show late.
    # Else it is "least", and at least what stands beside each of the bounds "room" that room is below, and beside
    # "spread". As long as the residual is no less than "rests": where the largest so far is "grows" times the first
    # one, or more, and room over the second number, or more, the last step, as eigenvalues are spread over many
    # orders; where pace, as in states, is below "slow", a step more, and at least what stands beside it, as the
    # spectrum's density grows towards its low end, and worse is to come. A step less below each of the residuals
    # "falls", which are among those of states, unless it asks for the last; the first of them does not count where
    # the diagonal is uneven and there is less room than "first". All of it was chosen on solves of the systems that
    # seeds 0 to 9, 20 to 39 and 60 to 79 test on (``splits``), files of shared/data/spd among them, and on 1040 more
    # of eight families
    "rule": {
        "bits": [[16, 16], [16, 20], [20, 24], [28, 36], [32, 40], [40, 48], [53, 53]],
        "few": 50,
        "first": 15.0,
        "least": 2,
        "room": [[40.0, 3], [4.0, 5], [0.05, 6]],
        "spread": [10.0, 3],
        "rests": 0.3,
        "grows": [1.2, 10.0],
        "slow": [0.9, 5],
        "falls": [1e-2, 1e-4, 1e-5],
    },
    "departs": 20,  # visits that an action must have to be taken instead of the rule's (Laroche et al. 2019, arXiv
    # 1712.06924)
    "margin": 0.02,  # by which it must be worth more, too, as a share of what a solve in fp64 takes off rewards
    "doubt": 0.1,  # such a share over the square root of how often it was tried, taken off: the known is preferred
    "least_visits": 3,  # an action tried less often in a state is not known; where none is, the state is unvisited, and
    # looked at more coarsely; if that does not help a solve goes on in fp64, or, where precision may not rise, as it is
    # --- states; of an action what it is worth is learnt apart where it is more precision than before
    "unknowns": [50, 200, 1000],  # bounds of n, where the condition number is not known
    # bounds of n / sqrt(condition number): where CG ends after about n iterations, not after sqrt(condition number), it
    # owes that to directions which stay conjugate, in less precision not for long
    "room": [0.3, 1.0, 4.0, 15.0, 40.0, 150.0],
    # log2 of the diagonal's largest over its smallest entry, before it is scaled: from here on it is uneven, as where
    # materials meet, and small eigenvalues may lie apart, unseen at first
    "spread": 1.0,
    "residuals": [0.3, 1e-2, 1e-4, 1e-5],  # bounds of the least relative residual so far: above the first one it rests
    # bounds of iterations since directions started anew / sqrt(condition number as these tell it). While that grows,
    # and b has a like share of all eigenvectors, whose eigenvalues x have a density like x^s near the least, it is
    # about half the first zero of the Bessel function J_s (Szego 1975, Orthogonal Polynomials, section 8.1): 1.57, 1.20
    # and 0.79 for Laplacians in 3, 2 and 1 dimensions, and 0.79 for S S^T with a square S of independent numbers
    "pace": [0.7, 0.9, 1.6],
    # --- rewards; progress is 1 from the first residual to tol, a residual being as far as the same solve all in fp64
    # is, by iterations, when it first comes to it; cost is 1 for that solve, and so are its iterations
    "cost_weight": 1.0,
    "iteration_weight": 0.1,  # with less cost weight than this speed counts for more than cost
    "converged": 0.5,
    "failed": -1.0,
    "regret": 4.0,  # times what a solve costs more than fp64's, taken off at its end: losses weigh more than savings
    # what the rule's own solve of the same problem brings is taken off, too: values are beside it, and hard problems,
    # on which other actions are tried, do not count against these
    # --- learning
    "discount": 1.0,  # a solve ends, and its cost is a sum
    "trace": 0.98,  # lambda: how much of what follows is taken from the solve itself rather than from the table, whose
    # states are met many times in a solve: their averages, added up, promise more than there is
    "least_rate": 0.05,  # the rate is 1 / visits, and never less
    "longest": 600,  # iterations in fp64 of what is trained on: more take too long
    "give_up": 2.2,  # times these, after which a solve in training has failed
    "explore": 0.15,  # chance of a decision to be drawn
}

#: Of these, what weighs outcomes.
REWARDS = ("cost_weight", "iteration_weight", "converged", "failed", "regret")
