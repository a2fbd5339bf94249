"""The conformance kit: functions that check whether a piece keeps the contract of its kind.

Most of these mistakes raise no error, but ruin results silently: the future leaks into the past, one row of a
batch into another, one episode into the next.
"""

from wmplay.check.envs import check_env as check_env
from wmplay.check.explorers import check_explorer as check_explorer
from wmplay.check.loggers import check_logger as check_logger
from wmplay.check.models import check_model as check_model
from wmplay.check.objectives import check_objective as check_objective
from wmplay.check.planners import check_planner as check_planner
from wmplay.check.policies import check_policy as check_policy
from wmplay.check.report import Finding as Finding
from wmplay.check.report import Report as Report
