"""Facts of the papers, for the column 'paper' of studies: value, table, dataset, and where the
value was read.

A fact that was not read in the paper itself is printed with a mark, which a line below the table
explains. FACTS[name] is a fact; a name is the paper's and the fact's.
"""

from dataclasses import dataclass

PAPERS = {
  'mae': 'Feichtenhofer, Fan, Li, He: Masked Autoencoders As Spatiotemporal Learners (NeurIPS '
  '2022)',
  'mvit2': 'Li et al.: MViTv2 (CVPR 2022)',
  'multitrain': 'Liang et al.: Multi-dataset Training of Transformers for Robust Action '
  'Recognition (NeurIPS 2022)',
  'chen': 'Chen, Panda, Ramakrishnan, Feris, Cohn, Oliva, Fan: Deep analysis of CNN-based '
  'spatio-temporal representations for action recognition (CVPR 2021)',
  'sts': 'Li, Wei, Kim, Khanna, Yuille, Xie: In Defense of Image Pre-Training for Spatiotemporal '
  'Recognition (ECCV 2022)',
  'ig65m': 'Ghadiyaram, Feiszli, Tran, Yan, Wang, Mahajan: Large-scale weakly-supervised '
  'pre-training for video action recognition (CVPR 2019)',
}
PAPER = 'the paper'
MEMORY = 'memory'  # of the paper's main part, which was not at hand
ZOO = "the authors' list of published models"


@dataclass(frozen=True)
class Fact:
  """A figure of a paper.

  Attributes:
    value: as the paper prints it; two numbers are top-1 / top-5.
    paper: key of PAPERS.
    table: where in the paper.
    dataset: that was tested on.
    what: network, setting and measure.
    source: where the value was read: PAPER, MEMORY or ZOO.
  """

  value: str
  paper: str
  table: str
  dataset: str
  what: str
  source: str = PAPER

  @property
  def from_document(self) -> bool:
    """Returns whether the value was read in the paper itself."""
    return self.source == PAPER

  @property
  def mark(self) -> str:
    return '' if self.from_document else ' †'

  @property
  def footnote(self) -> str:
    """Returns the line that explains the mark, '' without one."""
    return '' if self.from_document else f'† not read in the paper itself, but from {self.source}'

  def __str__(self) -> str:
    return f'{self.value}{self.mark}'


@dataclass(frozen=True)
class Text:
  """Facts within a sentence, for a cell of a table: '{}' stands for each."""

  text: str
  facts: tuple[Fact, ...]

  @property
  def footnote(self) -> str:
    return next((fact.footnote for fact in self.facts if fact.footnote), '')

  def __str__(self) -> str:
    return self.text.format(*self.facts)


def cell(text: str, *names: str) -> Text:
  """Returns a cell: a text in which '{}' stands for each named fact."""
  return Text(text, tuple(FACTS[name] for name in names))


def _table2(value: str, what: str) -> Fact:
  what = f'ViT-L, 800 epochs, fine-tuned, top-1: {what}'
  return Fact(value, 'mae', 'table 2', 'Kinetics-400', what, MEMORY)


def _table12(value: str, what: str) -> Fact:
  what = f'ViT-L, 200 epochs, fine-tuned, top-1: {what}'
  return Fact(value, 'mae', 'table 12', 'Something-Something V2', what)


SSV2 = 'Something-Something V2'


def _table1(value: str, what: str) -> Fact:
  return Fact(value, 'mae', 'table 1', 'Kinetics-400', f'ViT-L, 800 epochs: {what}', MEMORY)


def _table3(value: str, dataset: str, what: str) -> Fact:
  return Fact(value, 'mae', 'table 3', dataset, f'ViT-L, top-1, {what}', MEMORY)


def _table4(value: str, what: str) -> Fact:
  what = f'ViT-L, fine-tuned, top-1, pre-trained on {what}'
  return Fact(value, 'mae', 'table 4', 'Kinetics-400', what, MEMORY)


def _table10(value: str, dataset: str, what: str) -> Fact:
  return Fact(value, 'mae', 'table 10', dataset, f'ViT-L, 1600 epochs, top-1, {what}')


def _sts(table: str, what: str, **values: str) -> dict[str, Fact]:
  """Returns the facts sts/TABLE_WHAT_DATA of a row of a table, by dataset; spaces are '_' in
  names."""
  names = {'k400': 'Kinetics-400', 'ssv2': 'Something-Something V2', 'imagenet': 'ImageNet'}
  row = f'{table} {what}'.replace('table ', '').replace('appendix ', '').replace(' ', '_')
  return {
    f'sts/{row}_{data}': Fact(value, 'sts', table, names[data], f'top-1: {what}')
    for data, value in values.items()
  }


_STS = {
  # Of networks that one slice of a video network makes, linear probe.
  **_sts('table 1', 'csn slice 0', imagenet='3.0'),
  **_sts('table 1', 'csn slice 1', imagenet='33.5'),
  **_sts('table 1', 'csn slice 2', imagenet='6.3'),
  **_sts('table 1', 'x3d_s slice 0', imagenet='5.7'),
  **_sts('table 1', 'x3d_s slice 1', imagenet='41.2'),
  **_sts('table 1', 'x3d_s slice 2', imagenet='5.5'),
  **_sts('table 1', 'r2plus1d slice 0', imagenet='0.8'),
  **_sts('table 1', 'r2plus1d slice 1', imagenet='32.3'),
  **_sts('table 1', 'r2plus1d slice 2', imagenet='2.2'),
  **_sts('table 1', 'slowonly slice 0', imagenet='18.3'),
  **_sts('table 1', 'slowonly slice 1', imagenet='45.1'),
  **_sts('table 1', 'slowonly slice 2', imagenet='17.6'),
  # From scratch; and 300 epochs of images, then 50 of videos (X3D-S 100), with STS.
  **_sts('table 3', 'slowonly scratch', k400='74.9'),
  **_sts('table 3', 'slowonly sts', k400='75.6'),
  **_sts('table 3', 'slowfast_4x16 scratch', k400='75.6'),
  **_sts('table 3', 'slowfast_4x16 sts', k400='76.2'),
  **_sts('table 3', 'slowfast_8x8 scratch', k400='76.9'),
  **_sts('table 3', 'slowfast_8x8 sts', k400='77.2'),
  **_sts('table 3', 'r2plus1d scratch', k400='68.7'),
  **_sts('table 3', 'r2plus1d sts', k400='76.2'),
  **_sts('table 3', 'csn scratch', k400='73.6'),
  **_sts('table 3', 'csn sts', k400='76.7'),
  **_sts('table 3', 'x3d_s scratch', k400='73.2'),
  **_sts('table 3', 'x3d_s sts', k400='73.5'),
  # GPU hours: from scratch; of images and videos together.
  **{
    f'sts/3_{model}_{way}_hours': Fact(
      hours, 'sts', 'table 3', 'Kinetics-400', f'GPU hours: {model} {way}'
    )
    for model, both in {
      'slowonly': ('389', '258'), 'slowfast_4x16': ('696', '373'), 'slowfast_8x8': ('840', '401'),
      'r2plus1d': ('778', '382'), 'csn': ('1106', '392'), 'x3d_s': ('432', '265'),
    }.items()
    for way, hours in zip(('scratch', 'sts'), both)
  },
  # From scratch; from images; the same with STS.
  **_sts('table 4', 'slowonly scratch', ssv2='58.4'),
  **_sts('table 4', 'slowonly plain', ssv2='61.6'),
  **_sts('table 4', 'slowonly sts', ssv2='62.7'),
  **_sts('table 4', 'slowfast_4x16 scratch', ssv2='49.9'),
  **_sts('table 4', 'slowfast_4x16 plain', ssv2='55.8'),
  **_sts('table 4', 'slowfast_4x16 sts', ssv2='57.2'),
  **_sts('table 4', 'r2plus1d scratch', ssv2='59.1'),
  **_sts('table 4', 'r2plus1d plain', ssv2='62.3'),
  **_sts('table 4', 'r2plus1d sts', ssv2='63.0'),
  **_sts('table 4', 'csn scratch', ssv2='57.5'),
  **_sts('table 4', 'csn plain', ssv2='60.4'),
  **_sts('table 4', 'csn sts', ssv2='61.4'),
  **_sts('table 4', 'x3d_s scratch', ssv2='51.9'),
  **_sts('table 4', 'x3d_s plain', ssv2='57.0'),
  **_sts('table 4', 'x3d_s sts', ssv2='58.3'),
  # 8 frames; 100 epochs of images and 50 of videos, from scratch 100.
  **_sts('table 6', 'slowonly scratch', k400='73.1', ssv2='58.4'),
  **_sts('table 6', 'slowonly plain', k400='74.9', ssv2='61.6'),
  **_sts('table 6', 'slowonly sts', k400='75.0', ssv2='62.7'),
  **_sts('table 6', 'csn scratch', k400='70.7', ssv2='57.5'),
  **_sts('table 6', 'csn plain', k400='74.3', ssv2='60.4'),
  **_sts('table 6', 'csn sts', k400='74.7', ssv2='61.4'),
  # CSN with STS by frames of a clip.
  **_sts('table 7', '8 frames scratch', k400='71.0'),
  **_sts('table 7', '8 frames sts', k400='74.7'),
  **_sts('table 7', '16 frames scratch', k400='73.5'),
  **_sts('table 7', '16 frames sts', k400='76.1'),
  **_sts('table 7', '32 frames scratch', k400='74.4'),
  **_sts('table 7', '32 frames sts', k400='76.7'),
  # By the source of images.
  **_sts('table 8', 'csn frames', k400='73.4'),
  **_sts('table 8', 'x3d_s frames', k400='72.8'),
  # By the start of kernels through time.
  **_sts('table 9', 'slowonly inflation plain', k400='74.5', ssv2='61.8'),
  **_sts('table 9', 'slowonly inflation sts', k400='74.8', ssv2='62.6'),
  **_sts('table 9', 'csn inflation plain', k400='74.0', ssv2='60.0'),
  **_sts('table 9', 'csn inflation sts', k400='74.6', ssv2='61.7'),
  **_sts('table 9', 'csn rates_3_3_9', k400='74.3', ssv2='60.0'),
  **_sts('table 9', 'csn rates_9_3_9', k400='74.3', ssv2='60.2'),
  # CSN by splitting and ratio.
  **_sts('table 10', 'plain', imagenet='76.6', k400='74.3', ssv2='60.4'),
  **_sts('table 10', 'no_split', imagenet='76.6', k400='74.0', ssv2='60.8'),
  **_sts('table 10', 'sts', imagenet='77.1', k400='74.7', ssv2='61.4'),
  **_sts('table 10', 'sts_1_2', imagenet='76.8', k400='74.6', ssv2='61.8'),
  **_sts('table 10', 'sts_2_1', imagenet='77.2', k400='74.7', ssv2='61.4'),
  # SlowFast 4x16 by what images train.
  **_sts('appendix B.1', 'scratch', k400='75.6'),
  **_sts('appendix B.1', 'slow', k400='75.4'),
  **_sts('appendix B.1', 'both', k400='75.7'),
  **_sts('appendix B.1', 'both 300', k400='76.9'),
  # CSN whose static outputs are dilated.
  **_sts('appendix B.2', 'dilated_2', k400='74.5', ssv2='61.2'),
  **_sts('appendix B.2', 'dilated_3', k400='74.4', ssv2='61.1'),
  # Released image networks, 300 epochs.
  **{
    f'sts/zoo_{model}': Fact(top1, 'sts', 'released weights', 'ImageNet', f'top-1: {model}', ZOO)
    for model, top1 in {
      'slowonly': '79.9', 'slowfast_4x16': '79.9', 'slowfast_8x8': '79.1', 'r2plus1d': '79.6',
      'csn': '78.8', 'x3d_s': '74.8',
    }.items()
  },
}  # fmt: skip


def _joint(table: str, what: str, **values: str) -> dict[str, Fact]:
  """Returns the facts multitrain/WHAT_DATASET of a row of a table; spaces are '_' in names."""
  names = {
    'k400': 'Kinetics-400', 'k700': 'Kinetics-700', 'mit': 'Moments in Time',
    'ssv2': 'Something-Something V2', 'activitynet': 'ActivityNet',
  }  # fmt: skip
  return {
    f'multitrain/{what.replace(" ", "_")}_{data}': Fact(
      value, 'multitrain', table, names[data], f'MViTv2-B 32x3, top-1 / top-5: {what}'
    )
    for data, value in values.items()
  }


_JOINT = {
  **_joint(
    'table 1', 'separate', k400='79.8 / 93.9', mit='38.6 / 67.5', ssv2='67.0 / 90.7',
    activitynet='81.5 / 95.1',
  ),
  **_joint(
    'table 1', 'joint', k400='81.9 / 95.2', mit='41.7 / 71.0', ssv2='68.9 / 91.6',
    activitynet='87.4 / 97.3',
  ),
  **_joint(
    'table 1', 'joint 312', k400='83.2 / 96.4', mit='43.1 / 71.9', ssv2='69.3 / 92.1',
    activitynet='88.2 / 97.6',
  ),
  **_joint('table 2', 'separate', k700='74.1 / 91.9'),
  **_joint(
    'table 2', 'joint with k700', k700='75.8 / 93.2', mit='42.2 / 72.3', ssv2='69.1 / 92.2',
    activitynet='88.1 / 97.2',
  ),
  **_joint(
    'table 2', 'joint with k700 312', k700='76.3 / 93.5', mit='43.5 / 73.0', ssv2='70.4 / 93.1',
    activitynet='89.1 / 98.1',
  ),
  **_joint(
    'table 3', 'vanilla', k400='80.1 / 94.0', mit='33.4 / 60.1', ssv2='60.8 / 89.0',
    activitynet='86.5 / 97.1',
  ),
  **_joint(
    'table 3', 'vanilla 200 epochs', k400='80.6 / 94.7', mit='35.1 / 63.9', ssv2='56.8 / 85.3',
    activitynet='86.3 / 97.2',
  ),
  **_joint(
    'table 3', 'no informative', k400='13.5 / 33.4', mit='7.3 / 19.9', ssv2='9.7 / 28.5',
    activitynet='24.8 / 54.3',
  ),
  **_joint(
    'table 3', 'no informative no add', k400='80.4 / 94.5', mit='38.7 / 68.9', ssv2='62.6 / 89.8',
    activitynet='86.5 / 97.4',
  ),
  **_joint(
    'table 3', 'no projection', k400='80.6 / 94.8', mit='39.9 / 69.2', ssv2='61.5 / 88.0',
    activitynet='86.9 / 97.5',
  ),
  **_joint('table 3', 'no activitynet', k400='81.4 / 95.0', mit='41.3 / 70.5', ssv2='68.7 / 91.3'),
  # Of another collection of Kinetics-400.
  **_joint(
    'released model', 'released', k400='84.7 / 96.5', mit='41.4 / 69.5', ssv2='65.2 / 86.6'
  ),
}  # fmt: skip

FACTS = {
  **_STS,
  **_JOINT,
  'mae/frames_75': _table2('79.1', 'masks of whole frames, 75 %'),
  'mae/random_90': _table2('84.4', 'random masks, 90 %'),
  'mae/tubes_90': _table2('83.5', 'tubes, 90 %'),
  'mae/blocks_75': _table2('83.2', 'blocks, 75 %'),
  'mae/raw_pixels': _table2('83.8', 'raw pixels as targets'),
  'mae/normalized_pixels': _table2('84.4', 'normalized pixels as targets'),
  'mae/width_128': _table2('80.8', 'decoder 128 wide'),
  'mae/width_256': _table2('83.1', 'decoder 256 wide'),
  'mae/width_512': _table2('84.4', 'decoder 512 wide'),
  'mae/width_1024': _table2('83.7', 'decoder 1024 wide'),
  'mae/depth_1': _table2('83.2', 'decoder of 1 block'),
  'mae/depth_4': _table2('84.4', 'decoder of 4 blocks'),
  'mae/depth_8': _table2('84.3', 'decoder of 8 blocks'),
  'mae/repeats_1': _table2('83.7', '1 clip of each decoded video'),
  'mae/repeats_2': _table2('84.3', '2 clips of each decoded video'),
  'mae/repeats_4': _table2('84.4', '4 clips of each decoded video'),
  'mae/crop_resized': _table2('84.4', 'random crops of half the area and more'),
  'mae/mask_tokens': _table2('84.3', 'the encoder sees mask tokens'),
  'mae/ssv2_frames_75': _table12('61.9', 'masks of whole frames, 75 %'),
  'mae/ssv2_random_90': _table12('63.4', 'random masks, 90 %'),
  'mae/ssv2_tubes_90': _table12('59.5', 'tubes, 90 %'),
  'mae/ssv2_width_128': _table12('59.4', 'decoder 128 wide'),
  'mae/ssv2_width_256': _table12('63.2', 'decoder 256 wide'),
  'mae/ssv2_depth_1': _table12('63.9', 'decoder of 1 block'),
  'mae/ssv2_depth_4': _table12('63.4', 'decoder of 4 blocks'),
  'mae/ssv2_depth_8': _table12('62.0', 'decoder of 8 blocks'),
  'mae/scratch': Fact(
    '71.4', 'mae', 'table 3', 'Kinetics-400', 'ViT-L from scratch, top-1', MEMORY
  ),
  'mae/base': Fact('81.3 / 94.9', 'mae', 'table 7', 'Kinetics-400', 'ViT-B, 1600 epochs'),
  'mae/large': Fact('84.8 / 96.2', 'mae', 'table 7', 'Kinetics-400', 'ViT-L, 1600 epochs'),
  'mae/huge': Fact('85.1 / 96.6', 'mae', 'table 7', 'Kinetics-400', 'ViT-H, 1600 epochs'),
  'mae/large_top1': Fact('84.8', 'mae', 'table 10', 'Kinetics-400', 'ViT-L, 1600 epochs, top-1'),
  'mae/large_k600': Fact(
    '86.5 / 97.2', 'mae', 'table 7', 'Kinetics-400', 'ViT-L by way of Kinetics-600'
  ),
  'mae/huge_k600': Fact(
    '86.8 / 97.2', 'mae', 'table 7', 'Kinetics-400', 'ViT-H by way of Kinetics-600'
  ),
  'mae/finetuned_masked_0': Fact(
    '84.4', 'mae', 'table 11', 'Kinetics-400', 'ViT-L, 800 epochs, top-1, no tokens masked'
  ),
  'mae/finetuned_masked_50': Fact(
    '84.1', 'mae', 'table 11', 'Kinetics-400', 'the same, half of the tokens masked'
  ),
  'mae/finetuned_masked_75': Fact(
    '83.8', 'mae', 'table 11', 'Kinetics-400', 'the same, 75 % of the tokens masked'
  ),
  'mae/large_ssv2': Fact(
    '72.1 / 93.9', 'mae', 'table 9', 'Something-Something V2', 'ViT-L from Kinetics-400'
  ),
  'mae/huge_ssv2': Fact(
    '74.1 / 94.5', 'mae', 'table 9', 'Something-Something V2', 'ViT-H from Kinetics-400'
  ),
  # Masked autoencoders, tables 1 to 4, 7, 9, 10 and 12.
  'mae/mask_tokens_gmacs': _table1('627.5', 'multiply-adds (1e9) of a clip, with mask tokens'),
  'mae/sparse_gmacs': _table1('81.0', 'multiply-adds (1e9) of a clip'),
  'mae/mask_tokens_hours': _table1('147.5', 'hours of 128 A100, with mask tokens'),
  'mae/sparse_hours': _table1('35.8', 'hours of 128 A100'),
  'mae/sparse': _table1('84.4', 'fine-tuned, top-1'),
  'mae/hog': _table2('84.0', 'histograms of oriented gradients as targets'),
  'mae/tokens': _table2('83.8', 'tokens of a dVAE as targets'),
  'mae/crop_center': _table2('83.9', 'central crops'),
  'mae/crop_strong': _table2('83.4', 'stronger random crops'),
  'mae/jitter': _table2('83.8', 'random crops and color jitter'),
  'mae/depth_2': _table2('83.6', 'decoder of 2 blocks'),
  'mae/image_supervised': _table3('78.6', 'Kinetics-400', 'from ImageNet-1K, supervised'),
  'mae/image_supervised_ssv2': _table3('50.2', SSV2, 'from ImageNet-1K, supervised'),
  'mae/image_mae': _table3('82.3', 'Kinetics-400', 'from an autoencoder of ImageNet-1K'),
  'mae/image_mae_ssv2': _table3('65.6', SSV2, 'from an autoencoder of ImageNet-1K'),
  'mae/k400_supervised_ssv2': _table3('55.7', SSV2, 'from Kinetics-400, supervised'),
  'mae/k400_mae': _table3('84.8', 'Kinetics-400', 'from an autoencoder of Kinetics-400'),
  'mae/k400_mae_ssv2': _table3('72.1', SSV2, 'from an autoencoder of Kinetics-400'),
  'mae/data_k400_200': _table4('81.5', 'Kinetics-400, 240k videos, 200 epochs'),
  'mae/data_k400_400': _table4('83.3', 'Kinetics-400, 240k videos, 400 epochs'),
  'mae/data_k400_800': _table4('84.4', 'Kinetics-400, 240k videos, 800 epochs'),
  'mae/data_curated_240k_200': _table4('79.0', 'curated Instagram, 240k, 200 epochs'),
  'mae/data_curated_240k_400': _table4('81.6', 'curated Instagram, 240k, 400 epochs'),
  'mae/data_curated_240k_800': _table4('83.2', 'curated Instagram, 240k, 800 epochs'),
  'mae/data_curated_512k_200': _table4('81.9', 'curated Instagram, 512k, 200 epochs'),
  'mae/data_curated_512k_400': _table4('83.5', 'curated Instagram, 512k, 400 epochs'),
  'mae/data_curated_512k_800': _table4('83.9', 'curated Instagram, 512k, 800 epochs'),
  'mae/data_curated_1m_200': _table4('83.5', 'curated Instagram, 1M, 200 epochs'),
  'mae/data_curated_1m_400': _table4('84.1', 'curated Instagram, 1M, 400 epochs'),
  'mae/data_curated_1m_800': _table4('84.2', 'curated Instagram, 1M, 800 epochs'),
  'mae/data_uncurated_1m_200': _table4('83.2', 'uncurated Instagram, 1M, 200 epochs'),
  'mae/data_uncurated_1m_400': _table4('84.5', 'uncurated Instagram, 1M, 400 epochs'),
  'mae/data_uncurated_1m_800': _table4('84.4', 'uncurated Instagram, 1M, 800 epochs'),
  'mae/large_40x312': Fact(
    '85.8 / 96.9', 'mae', 'table 7', 'Kinetics-400', 'ViT-L, 40 frames of 312 px'
  ),
  'mae/huge_32x312': Fact(
    '86.0 / 97.0', 'mae', 'table 7', 'Kinetics-400', 'ViT-H, 32 frames of 312 px'
  ),
  'mae/large_ssv2_k600': Fact('73.0 / 94.2', 'mae', 'table 9', SSV2, 'ViT-L from Kinetics-600'),
  'mae/huge_ssv2_k600': Fact('75.2 / 94.9', 'mae', 'table 9', SSV2, 'ViT-H from Kinetics-600'),
  'mae/large_ssv2_k700': Fact('73.6 / 94.4', 'mae', 'table 9', SSV2, 'ViT-L from Kinetics-700'),
  'mae/huge_ssv2_k700': Fact('75.5 / 95.0', 'mae', 'table 9', SSV2, 'ViT-H from Kinetics-700'),
  'mae/k600_to_k400': _table10('84.9', 'Kinetics-400', 'from Kinetics-600'),
  'mae/k600_tuned_to_k400': _table10('86.5', 'Kinetics-400', 'from Kinetics-600, fine-tuned there'),
  'mae/k400_to_ssv2': _table10('72.1', SSV2, 'from Kinetics-400'),
  'mae/k400_tuned_to_ssv2': _table10('72.6', SSV2, 'from Kinetics-400, fine-tuned there'),
  'mae/k600_to_ssv2': _table10('73.0', SSV2, 'from Kinetics-600'),
  'mae/k600_tuned_to_ssv2': _table10('73.1', SSV2, 'from Kinetics-600, fine-tuned there'),
  'mae/k700_to_ssv2': _table10('73.6', SSV2, 'from Kinetics-700'),
  'mae/k700_tuned_to_ssv2': _table10('73.7', SSV2, 'from Kinetics-700, fine-tuned there'),
  'mae/ssv2_width_512': _table12('63.4', 'decoder 512 wide'),
  'mae/ssv2_depth_2': _table12('63.4', 'decoder of 2 blocks'),
  'mvit2/v2_s_16x4': Fact(
    '81.0 / 94.6', 'mvit2', 'table 4', 'Kinetics-400', 'MViTv2-S 16x4, 1 crop x 5 clips', ZOO
  ),
  'mvit2/v2_b_32x3': Fact(
    '82.9 / 95.7', 'mvit2', 'table 4', 'Kinetics-400', 'MViTv2-B 32x3, 1 crop x 5 clips', ZOO
  ),
  'mvit2/v2_l_40x3': Fact(
    '86.1 / 97.0', 'mvit2', 'table 4', 'Kinetics-400', 'MViTv2-L from ImageNet-21K', ZOO
  ),
  'mvit2/v2_s_ssv2': Fact(
    '68.2 / 91.4', 'mvit2', 'table 5', 'Something-Something V2', 'MViTv2-S, 3 crops x 1 clip', ZOO
  ),
  'mvit2/v2_b_ssv2': Fact(
    '70.5 / 92.7', 'mvit2', 'table 5', 'Something-Something V2', 'MViTv2-B, 3 crops x 1 clip', ZOO
  ),
  'mvit2/v2_l_ssv2': Fact(
    '73.3 / 94.1', 'mvit2', 'table 5', 'Something-Something V2', 'MViTv2-L, 3 crops x 1 clip', ZOO
  ),
  'mvit2/v1_b_16x4': Fact(
    '78.4 / 93.5', 'mvit2', 'table 4', 'Kinetics-400', 'MViTv1-B 16x4, 1 crop x 5 clips', ZOO
  ),
  'mvit2/v1_b_32x3': Fact(
    '80.4 / 94.8', 'mvit2', 'table 4', 'Kinetics-400', 'MViTv1-B 32x3, 1 crop x 5 clips', ZOO
  ),
  'multitrain/b_32x3': Fact(
    '79.8 / 93.9', 'multitrain', 'table 1', 'Kinetics-400', 'own baseline, one dataset'
  ),
  'multitrain/b_16x4': Fact(
    '78.8 / 93.5', 'multitrain', 'supplement', 'Kinetics-400', '16x4 from scratch'
  ),
  'ig65m/scratch_18': Fact('69.3', 'ig65m', 'table 2', 'Kinetics-400', 'R(2+1)D-18 from scratch'),
  'ig65m/scratch_34': Fact('69.6', 'ig65m', 'table 2', 'Kinetics-400', 'R(2+1)D-34 from scratch'),
  'ig65m/scratch_101': Fact('71.7', 'ig65m', 'table 2', 'Kinetics-400', 'R(2+1)D-101 from scratch'),
  'ig65m/scratch_152': Fact('72.0', 'ig65m', 'table 2', 'Kinetics-400', 'R(2+1)D-152 from scratch'),
  'ig65m/tuned_18': Fact('76.0', 'ig65m', 'table 2', 'Kinetics-400', 'R(2+1)D-18 from 65M videos'),
  'ig65m/tuned_34': Fact('78.2', 'ig65m', 'table 2', 'Kinetics-400', 'R(2+1)D-34 from 65M videos'),
  'ig65m/tuned_101': Fact(
    '79.1', 'ig65m', 'table 2', 'Kinetics-400', 'R(2+1)D-101 from 65M videos'
  ),
  'ig65m/tuned_152': Fact(
    '79.9', 'ig65m', 'table 2', 'Kinetics-400', 'R(2+1)D-152 from 65M videos'
  ),
  'ig65m/fc_only_34': Fact(
    '73.0', 'ig65m', 'figure 1', 'Kinetics-400', 'R(2+1)D-34, 8 frames, 65M videos, fc-only'
  ),
}


def _chen(value: str, table: str, dataset: str, what: str) -> Fact:
  return Fact(value, 'chen', table, dataset, f'{what}, top-1')


K400, SSV2, MIT = 'Kinetics-400', 'Something-Something V2', 'Moments in Time'
# Chen et al. 2021: names are the dataset and the paper's name of the network.
FACTS |= {
  # Table 2: three crops, ten dense clips (SSV2: two uniform ones).
  'chen/k400_I3D-R50': _chen('76.61', 'table 2', K400, 'I3D-R50'),
  'chen/k400_TAM-R50': _chen('76.18', 'table 2', K400, 'TAM-R50'),
  'chen/k400_SF-R50-8x8': _chen('76.40', 'table 2', K400, 'SlowFast-R50 8x8, trained by them'),
  'chen/k400_I3D-R101': _chen('77.80', 'table 2', K400, 'I3D-R101'),
  'chen/k400_TAM-R101': _chen('77.61', 'table 2', K400, 'TAM-R101'),
  'chen/k400_SF-R101-8x8': _chen('76.72', 'table 2', K400, 'SlowFast-R101 8x8, trained by them'),
  'chen/k400_TSN-R50-tp': _chen('74.9', 'table 8', K400, 'TSN-R50-tp'),
  'chen/ssv2_I3D-R50': _chen('62.84', 'table 2', SSV2, 'I3D-R50'),
  'chen/ssv2_TAM-R50': _chen('63.83', 'table 2', SSV2, 'TAM-R50'),
  'chen/ssv2_SF-R50-8x8': _chen('60.10', 'table 2', SSV2, 'SlowFast-R50 8x8'),
  'chen/ssv2_SF-R50-16x8': _chen('63.0', 'table 2', SSV2, 'SlowFast-R50 16x8 from Kinetics'),
  'chen/ssv2_I3D-R101': _chen('64.29', 'table 2', SSV2, 'I3D-R101'),
  'chen/ssv2_TAM-R101': _chen('65.32', 'table 2', SSV2, 'TAM-R101'),
  'chen/moments_I3D-R50': _chen('31.21', 'table 2', MIT, 'I3D-R50'),
  'chen/moments_TAM-R50': _chen('30.80', 'table 2', MIT, 'TAM-R50'),
  'chen/moments_SF-R50-8x8': _chen('31.20', 'table 2', MIT, 'SlowFast-R50 8x8'),
  # Table 9: without ImageNet.
  'chen/k400_I3D-R50_scratch': _chen('76.54', 'table 9', K400, 'I3D-R50 from scratch'),
  'chen/k400_TAM-R50_scratch': _chen('75.61', 'table 9', K400, 'TAM-R50 from scratch'),
  # Figure 7, 32 frames; values that its text gives as differences.
  'chen/k400_I3D-InceptionV1-tp': _chen('about 71.5', 'figure 7', K400, 'I3D-InceptionV1-tp'),
  'chen/k400_I3D-R50-tp': _chen('about 75.5', 'figure 7', K400, 'I3D-R50-tp'),
  'chen/k400_I3D-SE-R50': _chen('about 77.2', 'figure 7', K400, 'I3D-SE-R50'),
  # Table 3: trained with uniform clips (3 x 2 views) or dense ones (3 x 10).
  'chen/uniform_i3d-r50': _chen('76.07', 'table 3', K400, 'I3D-R50, uniform'),
  'chen/uniform_tam-r50': _chen('76.45', 'table 3', K400, 'TAM-R50, uniform'),
  'chen/uniform_sf-r50-8x8': _chen('71.85', 'table 3', K400, 'SlowFast-R50 8x8, uniform'),
  'chen/dense_i3d-r50': _chen('76.61', 'table 3', K400, 'I3D-R50, dense'),
  'chen/dense_tam-r50': _chen('76.18', 'table 3', K400, 'TAM-R50, dense'),
  'chen/dense_sf-r50-8x8': _chen('76.40', 'table 3', K400, 'SlowFast-R50 8x8, dense'),
  # Table 4: from Kinetics.
  'chen/ucf101_I3D-R50': _chen('97.12', 'table 4', 'UCF101', 'I3D-R50'),
  'chen/ucf101_TAM-R50': _chen('95.05', 'table 4', 'UCF101', 'TAM-R50'),
  'chen/ucf101_SF-R50-8x8': _chen('95.67', 'table 4', 'UCF101', 'SlowFast-R50 8x8'),
  'chen/hmdb51_I3D-R50': _chen('72.32', 'table 4', 'HMDB51', 'I3D-R50'),
  'chen/hmdb51_TAM-R50': _chen('71.67', 'table 4', 'HMDB51', 'TAM-R50'),
  'chen/hmdb51_SF-R50-8x8': _chen('74.61', 'table 4', 'HMDB51', 'SlowFast-R50 8x8'),
  'chen/jester_I3D-R50': _chen('96.39', 'table 4', 'Jester', 'I3D-R50'),
  'chen/jester_TAM-R50': _chen('96.35', 'table 4', 'Jester', 'TAM-R50'),
  'chen/jester_SF-R50-8x8': _chen('96.75', 'table 4', 'Jester', 'SlowFast-R50 8x8'),
  'chen/mini_ssv2_I3D-R50': _chen('65.86', 'table 4', 'Mini-SSV2', 'I3D-R50'),
  'chen/mini_ssv2_TAM-R50': _chen('66.91', 'table 4', 'Mini-SSV2', 'TAM-R50'),
  'chen/mini_ssv2_SF-R50-8x8': _chen('63.93', 'table 4', 'Mini-SSV2', 'SlowFast-R50 8x8'),
  # Table 5: f8 and f16, one clip of the center. "Conv." is TAM with dense taps.
  'chen/mini_ssv2_tsn_inception_v1_f8': _chen('33.1', 'table 5', 'Mini-SSV2', 'None'),
  'chen/mini_ssv2_i3d_inception_v1_f8': _chen('56.4', 'table 5', 'Mini-SSV2', 'I3D'),
  'chen/mini_ssv2_tam_dense_inception_v1_f8': _chen('58.2', 'table 5', 'Mini-SSV2', 'Conv.'),
  'chen/mini_ssv2_tam_inception_v1_f8': _chen('59.7', 'table 5', 'Mini-SSV2', 'TAM'),
  'chen/mini_ssv2_tsn_inception_v1_f16': _chen('34.7', 'table 5', 'Mini-SSV2', 'None'),
  'chen/mini_ssv2_i3d_inception_v1_f16': _chen('61.8', 'table 5', 'Mini-SSV2', 'I3D'),
  'chen/mini_ssv2_tam_dense_inception_v1_f16': _chen('63.7', 'table 5', 'Mini-SSV2', 'Conv.'),
  'chen/mini_ssv2_tam_inception_v1_f16': _chen('63.9', 'table 5', 'Mini-SSV2', 'TAM'),
  'chen/mini_ssv2_tsn_resnet50_f8': _chen('33.9', 'table 5', 'Mini-SSV2', 'None'),
  'chen/mini_ssv2_i3d_resnet50_f8': _chen('62.6', 'table 5', 'Mini-SSV2', 'I3D'),
  'chen/mini_ssv2_tam_dense_resnet50_f8': _chen('61.6', 'table 5', 'Mini-SSV2', 'Conv.'),
  'chen/mini_ssv2_tam_resnet50_f8': _chen('65.4', 'table 5', 'Mini-SSV2', 'TAM'),
  'chen/mini_ssv2_tsm_resnet50_f8': _chen('64.1', 'table 5', 'Mini-SSV2', 'TSM'),
  'chen/mini_ssv2_nln_resnet50_f8': _chen('53.0', 'table 5', 'Mini-SSV2', 'NLN'),
  'chen/mini_ssv2_tsn_resnet50_f16': _chen('35.3', 'table 5', 'Mini-SSV2', 'None'),
  'chen/mini_ssv2_i3d_resnet50_f16': _chen('66.2', 'table 5', 'Mini-SSV2', 'I3D'),
  'chen/mini_ssv2_tam_dense_resnet50_f16': _chen('65.7', 'table 5', 'Mini-SSV2', 'Conv.'),
  'chen/mini_ssv2_tam_resnet50_f16': _chen('68.6', 'table 5', 'Mini-SSV2', 'TAM'),
  'chen/mini_ssv2_tsm_resnet50_f16': _chen('67.4', 'table 5', 'Mini-SSV2', 'TSM'),
  'chen/mini_ssv2_nln_resnet50_f16': _chen('55.0', 'table 5', 'Mini-SSV2', 'NLN'),
  'chen/mini_k400_tsn_inception_v1_f8': _chen('70.4', 'table 5', 'Mini-Kinetics', 'None'),
  'chen/mini_k400_i3d_inception_v1_f8': _chen('68.1', 'table 5', 'Mini-Kinetics', 'I3D'),
  'chen/mini_k400_tam_dense_inception_v1_f8': _chen('68.3', 'table 5', 'Mini-Kinetics', 'Conv.'),
  'chen/mini_k400_tam_inception_v1_f8': _chen('68.8', 'table 5', 'Mini-Kinetics', 'TAM'),
  'chen/mini_k400_tsn_inception_v1_f16': _chen('70.5', 'table 5', 'Mini-Kinetics', 'None'),
  'chen/mini_k400_i3d_inception_v1_f16': _chen('70.9', 'table 5', 'Mini-Kinetics', 'I3D'),
  'chen/mini_k400_tam_dense_inception_v1_f16': _chen('70.7', 'table 5', 'Mini-Kinetics', 'Conv.'),
  'chen/mini_k400_tam_inception_v1_f16': _chen('70.0', 'table 5', 'Mini-Kinetics', 'TAM'),
  'chen/mini_k400_tsn_resnet50_f8': _chen('72.1', 'table 5', 'Mini-Kinetics', 'None'),
  'chen/mini_k400_i3d_resnet50_f8': _chen('73.3', 'table 5', 'Mini-Kinetics', 'I3D'),
  'chen/mini_k400_tam_dense_resnet50_f8': _chen('71.5', 'table 5', 'Mini-Kinetics', 'Conv.'),
  'chen/mini_k400_tam_resnet50_f8': _chen('74.1', 'table 5', 'Mini-Kinetics', 'TAM'),
  'chen/mini_k400_tsm_resnet50_f8': _chen('74.1', 'table 5', 'Mini-Kinetics', 'TSM'),
  'chen/mini_k400_nln_resnet50_f8': _chen('73.7', 'table 5', 'Mini-Kinetics', 'NLN'),
  'chen/mini_k400_tsn_resnet50_f16': _chen('72.5', 'table 5', 'Mini-Kinetics', 'None'),
  'chen/mini_k400_i3d_resnet50_f16': _chen('75.5', 'table 5', 'Mini-Kinetics', 'I3D'),
  'chen/mini_k400_tam_dense_resnet50_f16': _chen('73.4', 'table 5', 'Mini-Kinetics', 'Conv.'),
  'chen/mini_k400_tam_resnet50_f16': _chen('76.4', 'table 5', 'Mini-Kinetics', 'TAM'),
  'chen/mini_k400_tsm_resnet50_f16': _chen('75.6', 'table 5', 'Mini-Kinetics', 'TSM'),
  'chen/mini_k400_nln_resnet50_f16': _chen('74.5', 'table 5', 'Mini-Kinetics', 'NLN'),
  # Table 6: blocks of TAM-R18 that mix frames.
  'chen/mini_ssv2_all': _chen('59.1', 'table 6', 'Mini-SSV2', 'TAM-R18 f8, all blocks'),
  'chen/mini_ssv2_top': _chen('59.7', 'table 6', 'Mini-SSV2', 'TAM-R18 f8, top half'),
  'chen/mini_ssv2_bottom': _chen('56.5', 'table 6', 'Mini-SSV2', 'TAM-R18 f8, bottom half'),
  'chen/mini_ssv2_uniform': _chen('59.4', 'table 6', 'Mini-SSV2', 'TAM-R18 f8, every second'),
  'chen/mini_k400_all': _chen('69.08', 'table 6', 'Mini-Kinetics', 'TAM-R18 f8, all blocks'),
  'chen/mini_k400_top': _chen('69.21', 'table 6', 'Mini-Kinetics', 'TAM-R18 f8, top half'),
  'chen/mini_k400_bottom': _chen('69.27', 'table 6', 'Mini-Kinetics', 'TAM-R18 f8, bottom half'),
  'chen/mini_k400_uniform': _chen('69.14', 'table 6', 'Mini-Kinetics', 'TAM-R18 f8, every second'),
  # Table 8, a V100 of 32 GB: clips a second at the largest batch, and that batch.
  'chen/speed_TSN-R50-tp': Fact('53.5, batch 40', 'chen', 'table 8', K400, 'clips a second'),
  'chen/speed_TAM-R50': Fact('14.2, batch 48', 'chen', 'table 8', K400, 'clips a second'),
  'chen/speed_I3D-R50': Fact('16.1, batch 44', 'chen', 'table 8', K400, 'clips a second'),
  'chen/speed_SF-R50-8x8': Fact('48.9, batch 96', 'chen', 'table 8', K400, 'clips a second'),
}
