"""The words of ``docs/configuration.md`` about the keys of making and describing a catalogue."""

from __future__ import annotations

from e2fashion.schema import (
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
}
