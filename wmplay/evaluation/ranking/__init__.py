"""Ranking: how a world model ranks policies, next to how the real world does.

``rank_run`` lets policies act in the real world and in a run's model, from the same starts.
"""

from wmplay.evaluation.ranking.rank_run import RANKING_FILE, load_ranking, rank_run
from wmplay.evaluation.ranking.scoring import PolicyRank, Ranking

__all__ = ["RANKING_FILE", "PolicyRank", "Ranking", "load_ranking", "rank_run"]
