"""Every key of every configuration, with its type, its default and where that comes from: one file per topic.

:mod:`e2fashion.config` reads files against these classes; :mod:`e2fashion.training.build` makes objects of them.
"""

from omegaconf import MISSING

from e2fashion.schema.caption import (
    CaptionEvaluateConfig,
    CaptionFitConfig,
    CaptionMapperConfig,
    CaptionModelConfig,
    CaptionRunConfig,
    CaptionTrainConfig,
)
from e2fashion.schema.classify import ClassifyConfig, ExplainConfig, TagsFitConfig, TagsPredictConfig
from e2fashion.schema.common import Accelerator, identity_values, joined_later
from e2fashion.schema.compare import AblationConfig, CompareConfig
from e2fashion.schema.compose import ComposeConfig
from e2fashion.schema.convert import ConvertConfig
from e2fashion.schema.data import CheckConfig, DescribeConfig, PrepareConfig
from e2fashion.schema.evaluate import EvaluateConfig, ProbeConfig, ReportConfig
from e2fashion.schema.export import ExportConfig
from e2fashion.schema.logs import LoggingConfig, RunLoggingConfig
from e2fashion.schema.run import (
    EntityConfig,
    ImageConfig,
    LoaderConfig,
    LossConfig,
    LossTermConfig,
    ModelConfig,
    RunConfig,
    ScratchConfig,
    StageConfig,
    TextConfig,
    TextEntityConfig,
    TowerConfig,
    TrainConfig,
)
from e2fashion.schema.search import (
    IndexBuildConfig,
    IndexChangeConfig,
    IndexEvaluateConfig,
    IndexRemoveConfig,
    RecommendConfig,
    SearchConfig,
)

__all__ = [
    "MISSING",
    "AblationConfig",
    "Accelerator",
    "CaptionEvaluateConfig",
    "CaptionFitConfig",
    "CaptionMapperConfig",
    "CaptionModelConfig",
    "CaptionRunConfig",
    "CaptionTrainConfig",
    "CheckConfig",
    "ClassifyConfig",
    "CompareConfig",
    "ComposeConfig",
    "ConvertConfig",
    "DescribeConfig",
    "EntityConfig",
    "EvaluateConfig",
    "ExplainConfig",
    "ExportConfig",
    "ImageConfig",
    "IndexBuildConfig",
    "IndexChangeConfig",
    "IndexEvaluateConfig",
    "IndexRemoveConfig",
    "LoaderConfig",
    "LoggingConfig",
    "LossConfig",
    "LossTermConfig",
    "ModelConfig",
    "PrepareConfig",
    "ProbeConfig",
    "RecommendConfig",
    "ReportConfig",
    "RunConfig",
    "RunLoggingConfig",
    "ScratchConfig",
    "SearchConfig",
    "StageConfig",
    "TagsFitConfig",
    "TagsPredictConfig",
    "TextConfig",
    "TextEntityConfig",
    "TowerConfig",
    "TrainConfig",
    "identity_values",
    "joined_later",
]
