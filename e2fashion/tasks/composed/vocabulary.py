"""The vocabulary of the rule composer: slots of a garment, phrases of their values, and the scales of comparatives.

Ours, from the English of shop texts; British and American spellings.
"""

from __future__ import annotations

COLORS = (
    "black", "white", "off white", "grey", "light grey", "charcoal", "silver", "blue", "light blue", "navy blue",
    "turquoise", "teal", "red", "maroon", "burgundy", "pink", "light pink", "magenta", "peach", "purple", "lavender",
    "mauve", "dark purple", "green", "mint", "olive", "dark green", "yellow", "mustard", "gold", "cream", "orange",
    "rust", "copper", "bronze", "brown", "tan", "beige", "khaki", "dark brown", "coffee brown", "mushroom brown",
    "nude", "taupe", "turquoise blue", "lime green", "sea green", "fluorescent green", "grey melange", "rose", "steel",
    "metallic", "multicoloured",
)  # fmt: skip

#: Slot -> value as the composer writes it -> its other phrases.
SLOTS: dict[str, dict[str, tuple[str, ...]]] = {
    "colour": {
        **dict.fromkeys(COLORS, ()),
        "grey": ("gray",),
        "light grey": ("light gray", "pale grey"),
        "light blue": ("pale blue", "sky blue", "baby blue"),
        "navy blue": ("navy", "dark blue"),
        "turquoise": ("aqua",),
        "off white": ("ivory",),
        "maroon": ("dark red",),
        "light pink": ("pale pink", "baby pink"),
        "magenta": ("fuchsia", "hot pink"),
        "lavender": ("lilac", "light purple", "violet"),
        "mint": ("light green", "mint green"),
        "dark green": ("forest green",),
        "tan": ("camel", "light brown"),
        "lime green": ("lime",),
        "dark brown": ("chocolate brown",),
        "nude": ("skin coloured", "skin colored"),
        "gold": ("golden",),
        "cream": ("light yellow",),
        "multicoloured": ("multi", "multicolored", "multi coloured", "multi colored", "colorful", "colourful"),
    },
    "pattern": {
        "solid": ("plain", "no pattern", "without pattern", "solid coloured", "solid colored", "one color"),
        "striped": ("stripe", "pinstriped"),
        "checked": ("check", "checks", "checkered", "plaid", "gingham", "tartan"),
        "floral": ("flower", "flowers", "flowered", "flowery"),
        "polka dot": ("polka dots", "dotted", "spotted"),
        "animal pattern": ("leopard", "zebra", "snake", "animal"),
        "camouflage": ("camo",),
        "paisley": (),
        "tie dye": ("tie dyed", "tie-dye", "tie-dyed"),
    },
    "print": {
        "printed": ("print",),
        "graphic print": ("graphic", "graphics"),
        "logo": (),
        "slogan": ("lettering", "text", "writing", "words"),
        "photo print": ("photo", "photograph"),
    },
    "sleeve": {
        "sleeveless": ("no sleeve", "no sleeves", "without sleeves", "strapless", "straps", "tank"),
        "cap sleeve": ("cap sleeves", "capped sleeves"),
        "short sleeve": ("short sleeves", "short sleeved", "short-sleeved", "half sleeve", "half sleeves"),
        "three-quarter sleeve": ("three-quarter sleeves", "three quarter sleeves", "3/4 sleeve", "3/4 sleeves"),
        "long sleeve": ("long sleeves", "long sleeved", "long-sleeved", "full sleeve", "full sleeves"),
    },
    "length": {
        "mini": ("mini length", "thigh length", "above the knee"),
        "knee length": ("knee-length", "to the knee"),
        "midi": ("midi length", "mid length", "mid-length", "calf length"),
        "maxi": ("maxi length", "ankle length", "floor length", "full length", "floor-length"),
    },
    "neck": {
        "turtle neck": ("turtleneck", "high neck", "high-neck", "polo neck"),
        "crew neck": ("crew-neck", "round neck", "crewneck"),
        "scoop neck": ("scoop-neck", "scooped neck"),
        "v neck": ("v-neck", "vneck", "v necked"),
        "deep neck": ("plunging neckline", "low cut", "low-cut", "deep v"),
        "collar": ("collared", "with a collar", "button down", "button-down"),
        "halter neck": ("halter", "halterneck"),
        "boat neck": ("boat-neck",),
        "off shoulder": ("off the shoulder", "off-shoulder", "one shoulder"),
        "hooded": ("hood", "hoodie"),
    },
    "fit": {
        "tight fit": ("tight", "body con", "bodycon", "skin tight"),
        "slim fit": ("slim", "fitted", "slim-fit", "form fitting", "form-fitting"),
        "regular fit": ("regular",),
        "loose fit": ("loose", "relaxed", "loose-fitting", "relaxed fit", "flowy", "baggy"),
        "oversized": ("oversize",),
    },
    "fabric": {
        "cotton": (),
        "denim": ("jean", "jeans material"),
        "leather": ("faux leather",),
        "lace": ("lacy",),
        "silk": ("silky",),
        "satin": (),
        "wool": ("woollen", "woolen"),
        "linen": (),
        "velvet": (),
        "chiffon": (),
        "sheer": ("see through", "see-through", "transparent", "mesh"),
        "knit": ("knitted",),
        "polyester": (),
        "nylon": (),
        "suede": (),
        "fleece": (),
        "canvas": (),
    },
}  # fmt: skip

#: Names of a whole slot, which a negation deletes.
SLOT_NAMES: dict[str, tuple[str, ...]] = {
    "pattern": ("pattern", "patterns", "patterned"),
    "print": ("prints", "design", "designs"),
    "colour": ("colour", "color"),
}

#: Values in order, least first; a comparative moves one step, at most to an end. A value is in at most one scale.
SCALES: dict[str, tuple[tuple[str, ...], ...]] = {
    "colour": (
        ("white", "light grey", "grey", "charcoal", "black"),
        ("light blue", "blue", "navy blue"),
        ("light pink", "pink", "red", "maroon", "burgundy"),
        ("mint", "green", "olive", "dark green"),
        ("lavender", "purple", "dark purple"),
        ("cream", "yellow", "mustard"),
        ("beige", "tan", "brown", "dark brown"),
    ),
    "sleeve": (("sleeveless", "cap sleeve", "short sleeve", "three-quarter sleeve", "long sleeve"),),
    "length": (("mini", "knee length", "midi", "maxi"),),
    "neck": (("turtle neck", "crew neck", "scoop neck", "v neck", "deep neck"),),
    "fit": (("tight fit", "slim fit", "regular fit", "loose fit", "oversized"),),
}

#: Comparatives: slot, direction on its scale, and the text if the value of the reference is unknown.
COMPARATIVES: dict[str, tuple[str, int, str]] = {
    "darker": ("colour", 1, "dark"),
    "lighter": ("colour", -1, "light"),
    "brighter": ("colour", -1, "bright"),
    "paler": ("colour", -1, "pale"),
    "longer": ("length", 1, "maxi"),
    "shorter": ("length", -1, "mini"),
    "tighter": ("fit", -1, "tight fit"),
    "snugger": ("fit", -1, "tight fit"),
    "more fitted": ("fit", -1, "slim fit"),
    "less loose": ("fit", -1, "slim fit"),
    "looser": ("fit", 1, "loose fit"),
    "baggier": ("fit", 1, "loose fit"),
    "more relaxed": ("fit", 1, "loose fit"),
    "more flowy": ("fit", 1, "loose fit"),
    "less fitted": ("fit", 1, "loose fit"),
    "less tight": ("fit", 1, "loose fit"),
    "lower": ("neck", 1, "deep neck"),
    "deeper": ("neck", 1, "deep neck"),
    "higher": ("neck", -1, "turtle neck"),
}

#: Words in the clause of a comparative that change its slot, with the text for an unknown value.
TURNS: dict[tuple[str, str], tuple[str, dict[int, str]]] = {
    (comparative, word): ("sleeve", {1: "long sleeve", -1: "short sleeve"})
    for comparative in ("longer", "shorter")
    for word in ("sleeve", "sleeves", "sleeved", "arms")
}

#: Comparatives that are about a slot only with one of these words in their clause.
NEEDED: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("lower", "deeper", "higher"), ("neck", "neckline", "cut", "v", "collar")
)

#: Words before a comparative that make it two steps.
STRONG = ("much", "far", "way", "lot")

NEGATIONS = (
    "no", "not", "without", "isn't", "is not", "doesn't have", "does not have", "lacks", "less of", "instead of",
    "rather than", "no longer", "never", "minus", "removes", "remove",
)  # fmt: skip

#: Ends of the clause of a negation or a comparative.
CLAUSE_ENDS = (",", ";", ".", "and", "but", "with", "is", "has")

#: Connectors between two values of a slot: "black and white", "red/blue".
CONNECTORS = ("and", "&", "/", "or", "with", "in", "on", "a", "an", "of", "-")
