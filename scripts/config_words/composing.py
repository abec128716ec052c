"""The words of ``docs/configuration.md`` about the keys of text-guided retrieval."""

from __future__ import annotations

from e2fashion.schema import ComposeConfig

SECTIONS: tuple[tuple[str, type, str], ...] = (
    (
        "compose",
        ComposeConfig,
        "`e2fashion compose [config.yaml] <model> ... key=value ...`; the models are words of their own "
        "([composed.md](composed.md)).",
    ),
)

EXPLAINED: dict[type, dict[str, tuple[str, str]]] = {
    ComposeConfig: {
        "model": ("Run folders, model folders, or hub names of CLIPs; the first is the baseline of the others", "-"),
        "data": ("`other_colour`: a prepared catalogue; `fashion_iq`: the data set's own folder", "-"),
        "task": ("What is asked: another colour of a product line, or FashionIQ's captions", "ours"),
        "arms": ("`image`, `text`, `sum`, `concat`, `slots`, `llm`, separated by commas", "field"),
        "name": ("What tables call the models, separated by commas; null: their folders' names", "ours"),
        "split": ("Where queries come from; null: test, of FashionIQ val", "field"),
        "tuning_split": ("Where the weight of `sum` is chosen; null: val, of FashionIQ train", "ours"),
        "both_orders": ("Average the embeddings of both orders of two captions", "field"),
        "weight": ("The picture's share in `sum`; null: chosen by the mean of R@10 and R@50", "ours"),
        "weights": ("The shares to choose from", "ours"),
        "memory": (
            "Texts to caption references from: a catalogue's train split, or a text file of one caption a line; null: "
            "of `other_colour` the catalogue itself",
            "ours",
        ),
        "decoder": (
            "Folders of `caption train`, one per model, separated by commas, that caption references instead; null: "
            "the nearest text of `memory`",
            "ours",
        ),
        "reading": ("How a decoder reads a picture: `project`, `direct`, `shifted`, `nearest`", "DeCap"),
        "protect_column": ("Column of the memory whose values the rule composer leaves alone (brands)", "ours"),
        "lm": ("`llm`: a causal language model of Transformers, by folder or hub name", "-"),
        "lm_tokens": ("`llm`: longest answer", "ours"),
        "answers": ("`llm`: JSON file of answers; with `lm` they are kept there, without they must be there", "ours"),
        "line_columns": ("`other_colour`: columns that agree within a product line, separated by commas", "ours"),
        "line_name": ("`other_colour`: the description without its colour words agrees too", "ours"),
        "colour_column": ("`other_colour`: the column that differs", "ours"),
        "instruction": ("`other_colour`: what is asked; `{}` becomes the other colour", "ours"),
        "categories": ("`fashion_iq`: categories, separated by commas", "field"),
        "galleries": ("`fashion_iq`: `original` (split files), `val` (references and targets), with commas", "field"),
        "images": ("`fashion_iq`: folder of the pictures; null: `images` in `data`", "-"),
        "tuning_triplets": ("`fashion_iq`: train triplets of a category that choose the weight of `sum`", "ours"),
        "pad_aspect": ("`fashion_iq`: longer pictures are padded to this ratio of sides; null: not", "field"),
        "figure_queries": ("Queries of the figure; 0: no figure", "ours"),
        "figure_arms": ("Arms of the figure, separated by commas", "ours"),
        "resamples": ("Of the bootstrap behind the intervals", "ours"),
        "resize": ("Overrides the saved processor's way of making a square", "ours"),
        "size": ("Overrides the saved processor's size", "ours"),
        "batch_size": ("Pictures per step", "ours"),
        "accelerator": ("Where the encoder computes; `auto` takes a GPU if there is one", "ours"),
        "threads": ("Processor threads; null takes all", "ours"),
        "output": ("Folder of records, report, traces and figure; null: `runs/compose/<task>`", "ours"),
    },
}
