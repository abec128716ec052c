"""Encoders: CLIP with regional selection (E2), its variants FILIP and EI-CLIP, and E2 on SigLIP.

Importing the package registers E2 with Transformers' Auto classes, and the variants with :class:`E2Model`.
"""

from e2fashion.models.configuration_e2 import E2Config, E2VisionConfig, parse_entities
from e2fashion.models.ei_clip import EiClipModel
from e2fashion.models.filip import FilipModel, FilipOutput
from e2fashion.models.from_clip import added_parameters, new_parameter_names
from e2fashion.models.modeling_e2 import E2Model, E2Output, E2VisionModelWithProjection
from e2fashion.models.registration import register
from e2fashion.models.siglip import SiglipE2Model
from e2fashion.models.text_pooling import TextPoolingModel
from e2fashion.models.vision_e2 import E2VisionModel, E2VisionModelOutput, E2VisionOutput

register()
