"""The words of ``docs/configuration.md`` about the keys of making and describing a catalogue."""

from __future__ import annotations

from e2fashion.schema import (
    CheckConfig,
    DescribeConfig,
    PrepareConfig,
)

SECTIONS: tuple[tuple[str, type, str], ...] = (
    (
        "data prepare",
        PrepareConfig,
        "`e2fashion data prepare <source> [config.yaml] key=value ...`; `source` may be the first word.",
    ),
    (
        "data describe",
        DescribeConfig,
        "`e2fashion data describe <catalogue> key=value ...`; `catalogue` is the first word.",
    ),
    (
        "data check",
        CheckConfig,
        "`e2fashion data check [config.yaml] <catalogue> key=value ...`; `data=<catalogue>` says the same.",
    ),
)

EXPLAINED: dict[type, dict[str, tuple[str, str]]] = {
    PrepareConfig: {
        "source": (
            "`kagl`, `fashiongen`, `amazon_fashion`, `fashion_iq`, `folder`, `hub`, `labelled`, `synthetic`",
            "-",
        ),
        "output": ("The catalogue's folder", "-"),
        "on_error": ("`skip` leaves unfit rows out, counts them and lists them in `skipped.csv`", "ours"),
        "split_seed": ("Of the splits that are made here", "ours"),
        "val_fraction": ("Share of rows, where the source brings no val split", "ours"),
        "test_fraction": ("Share of rows, where the source brings no splits", "ours"),
        "max_text_characters": ("Longer descriptions are errors", "ours"),
        "max_pixels": ("Larger pictures are errors; read from the header, before decoding", "ours"),
        "dominant_fibre": (
            "New tag columns, each the dominant fibre of a column of compositions: `{fibre: composition}`",
            "ours",
        ),
        "overwrite": ("Replace another catalogue that lies in `output`", "ours"),
    },
    DescribeConfig: {
        "catalogue": ("A prepared catalogue", "-"),
        "tokenizer": ("Run folder, model folder or hub name whose tokenizer counts; null: words and marks", "ours"),
        "template": ("Text whose length is counted, as `text.template` of a run", "ours"),
        "context_length": ("Longer texts are counted; null: the tokenizer's own, else 77", "CLIP"),
    },
    CheckConfig: {
        "data": ("A prepared catalogue", "-"),
        "against": ("Another one, say for pretraining, whose train split is compared with val and test", "-"),
        "output": ("Folder of the report; null: `runs/check/<catalogue>`", "ours"),
        "fail_on": ("Exit code 3 from this severity on: `look`, `leak`, `broken` or `never`", "ours"),
        "near_bits": ("Near-identical pictures differ in at most so many of the 64 bits of their hash", "ours"),
        "near_pixels": ("And by at most this share of their contrast, at 16 x 16 pixels", "ours"),
        "near_text": ("Near-identical texts share this part of all their words (Jaccard)", "ours"),
        "skew": ("The least Cramer's V between a tag and size, shape or format that is reported", "ours"),
        "source_column": ("A tag column that says where a picture comes from: its skew is measured too", "-"),
        "seed": ("Of the shuffles behind the p-values", "ours"),
        "shown": ("Rows of a finding on the page; its CSV has all of them", "ours"),
        "tokenizer": ("Run folder, model folder or hub name whose tokenizer counts; null: words and marks", "ours"),
        "template": ("Text whose length is counted, as `text.template` of a run", "ours"),
        "context_length": ("Longer texts are listed; null: the tokenizer's own, else 77", "CLIP"),
    },
}
