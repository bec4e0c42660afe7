"""Writes tokenizer.json.gz: 2,000 strings with the ids that open_clip gives them, and what else tests/it/tokenizer.rs asks.

Needs open_clip_torch 3.3.0 and ftfy 6.3.1 (`pip install open_clip_torch==3.3.0 ftfy==6.3.1`). The strings are made by
seeded rules, one a kind of difficulty, so that the same file comes out every time:

    python tests/golden/tokenizer.py

The file is JSON, gzip-compressed, ASCII only:
    cases       [{kind, text, clean, ids}]  ids with start and end, no padding, of the full vocabulary (49408)
    cut         [{vocab, text, ids}]        the same of smaller vocabularies, see `cut_tokenizer`
    too_long    [{text, tokens}]            texts beyond 75 tokens, with their count (start and end not counted)
    left_out    {kind: count}               strings drawn and not kept because ftfy's mojibake repair changes them
"""

import gzip
import html.entities
import json
import random
import tempfile
import unicodedata
from pathlib import Path

import ftfy
from open_clip.tokenizer import SimpleTokenizer, default_bpe

COUNT = 2000
VOCAB = 49408
CONTEXT = 77
HERE = Path(__file__).parent

# Written for this file, in the manner of scene-parsing classes.
LABELS = """wall; building; sky; floor; tree; ceiling; road; bed; window pane; grass; cabinet; sidewalk; person; ground;
door; table; mountain; plant; curtain; chair; car; water; painting; sofa; shelf; house; sea; mirror; rug; field;
armchair; seat; fence; desk; rock; wardrobe; lamp; bathtub; railing; cushion; pedestal; box; column; signboard;
chest of drawers; counter; sand; sink; skyscraper; fireplace; refrigerator; grandstand; path; stairs; runway; showcase;
pool table; pillow; screen door; staircase; river; bridge; bookcase; blinds; coffee table; toilet; flower; book; hill;
bench; countertop; stove; palm tree; kitchen island; computer; swivel chair; boat; bar; arcade machine; hut; bus; towel;
light bulb; truck; tower; chandelier; awning; street lamp; booth; television; aeroplane; dirt track; clothes; pole;
land; banister; escalator; ottoman; bottle; buffet; poster; stage; van; ship; fountain; conveyor belt; canopy; washer;
toy; swimming pool; stool; barrel; basket; waterfall; tent; bag; minibike; cradle; oven; ball; food; step; storage tank;
brand name; microwave; flowerpot; animal; bicycle; lake; dishwasher; projection screen; blanket; sculpture; hood;
sconce; vase; traffic light; tray; dustbin; fan; pier; monitor; notice board; shower; radiator; drinking glass; clock;
flag; zebra crossing; giraffe; elephant; dog; cat; horse; cow; sheep; bear; umbrella; handbag; tie; suitcase; frisbee;
snowboard; kite; baseball bat; skateboard; surfboard; tennis racket; wine glass; fork; knife; spoon; bowl; banana;
sandwich; broccoli; carrot; hot dog; pizza; doughnut; cake; potted plant; laptop; mouse; remote control; keyboard;
cell phone; toaster; scissors; teddy bear; hair dryer; toothbrush; other; background; something else""".replace(
    "\n", " "
).split("; ")

TEMPLATES = [
    "a photo of a {}", "A photo of the {}.", "there is a {} in the scene", "this is the {} in the scene!",
    "a close-up of one {}, taken at night", "the {} (left) and the {} (right)", "Is this a {}?", "not a {} but a {}",
    "a {}; a {}; a {}", "{}/{}", "{}-like {}", "my {}'s {}", "WHERE IS THE {}???", "{} no. 7", "half a {} & two {}s",
]  # fmt: skip

FOREIGN = """cielo; árbol; señal de tráfico; château; forêt; garçon; Straße; Häuser; Übergang; größe; čeština; žlutý kůň;
łódź; pies; kocięta; Đà Nẵng; cây cối; İstanbul; ışık; gökyüzü; ουρανός; ΔΡΟΜΟΣ; Σίσυφος; ΟΔΟΣ; дерево; НЕБО; машина;
собака; ђак; їжак; שמים; עץ; كلب; سماء; شجرة; درخت; سگ; आकाश; कुत्ता; पेड़; মেঘ; வானம்; ท้องฟ้า; สุนัข; 天空; 树木; 犬; 道路標識;
ねこ; スカイライン; きょうは晴れ; 하늘; 나무; 강아지; გზა; ცა; երկինք; ሰማይ; ᏣᎳᎩ; ខ្មែរ; မြန်မာ; བོད; ᠮᠣᠩᠭᠣᠯ; ⵜⴰⵎⴰⵣⵉⵖⵜ""".replace("\n", " ").split("; ")

# Code points to draw from, by script; unassigned ones are skipped.
RANGES = [
    (0x00A1, 0x024F), (0x0250, 0x02FF), (0x0370, 0x03FF), (0x0400, 0x052F), (0x0531, 0x058F), (0x05D0, 0x05F4),
    (0x0620, 0x06FF), (0x0900, 0x097F), (0x0980, 0x09FF), (0x0B80, 0x0BFF), (0x0E01, 0x0E5B), (0x0F00, 0x0FFF),
    (0x10A0, 0x10FF), (0x1200, 0x135A), (0x13A0, 0x13FD), (0x1680, 0x169C), (0x1780, 0x17F9), (0x1C90, 0x1CBF),
    (0x1E00, 0x1FFF), (0x2010, 0x2027), (0x2030, 0x205E), (0x2070, 0x209C), (0x20A0, 0x20BF), (0x2100, 0x218B),
    (0x2190, 0x23FF), (0x2460, 0x27BF), (0x2C00, 0x2DFF), (0x3001, 0x30FF), (0x3400, 0x3500), (0x4E00, 0x9FFF),
    (0xA640, 0xA7CA), (0xAC00, 0xD7A3), (0xF900, 0xFAD9), (0xFB00, 0xFB4F), (0xFB50, 0xFDFF), (0x10330, 0x1034A),
    (0x10400, 0x1044F), (0x1D400, 0x1D7FF), (0x1F300, 0x1F6FF), (0x20000, 0x20100),
]  # fmt: skip

NAMES = sorted(html.entities.html5)
CLOSED = [name for name in NAMES if name.endswith(";")]
OPEN = [name for name in NAMES if not name.endswith(";")]
LIGATURES = "ĲĳŉǱǲǳǄǅǆǇǈǉǊǋǌﬀﬁﬂﬃﬄﬅﬆ"
CURLY = "‘’‚‛“”„‟ʼ′″«»‹›`´"
SPACES = " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
JOINERS = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad\u061c\u202a\u202e"
EMOJI = """😀;🐕;🐈‍⬛;👩‍🚀;👨‍👩‍👧‍👦;👍🏽;🧑🏿‍🌾;🏳️‍🌈;🏴󠁧󠁢󠁷󠁬󠁳󠁿;🇩🇪;🇯🇵🇫🇷;❤️;☀️;✈︎;1️⃣;#️⃣;⌚;🫠;👁️‍🗨️;🤷🏻‍♀️;🚗💨;🌲🌳;🏠;🛣️;©️;™""".split(";")
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


def label(rng):
    text = rng.choice(LABELS)
    return rng.choice([text, text, text.upper(), text.title(), text.capitalize(), text + "s"])


def sentence(rng):
    template = rng.choice(TEMPLATES)
    return template.format(*(label(rng) for _ in range(template.count("{}"))))


def foreign(rng):
    return " ".join(rng.choice(FOREIGN) for _ in range(rng.randint(1, 3)))


def scripts(rng):
    words = []
    for _ in range(rng.randint(1, 3)):
        first, last = rng.choice(RANGES)
        letters = [chr(rng.randint(first, last)) for _ in range(rng.randint(1, 6))]
        words.append("".join(c for c in letters if unicodedata.category(c) != "Cn"))
    return " ".join(words)


def entity(rng):
    name = rng.choice(CLOSED)
    code = rng.choice([rng.randint(32, 0x17F), rng.randint(0x2010, 0x2FFF), rng.randint(0x1F300, 0x1F6FF)])
    return rng.choice([
        f"&{name}", f"&{name}", f"&{name}", f"&{name.upper()}", f"&{name.title()}", f"&{rng.choice(OPEN)}",
        f"&{rng.choice(OPEN)}{rng.choice(LABELS)}", f"&{name[:-1]}", f"&{name[: rng.randint(1, len(name))]}",
        f"&amp;{name}", f"&amp;amp;{name}", f"&ampamp;{name}", f"&#{code};", f"&#x{code:x};", f"&#X{code:X}", f"&#{code}",
        f"&amp;#{code};", f"&#38;{name}", f"&{rng.choice(LABELS)};", "& ", "&;", "&&amp;&", "&#;", "&#x;", "&#xg;",
    ])  # fmt: skip


def entities(rng):
    return " ".join(rng.choice([entity, entity, label])(rng) for _ in range(rng.randint(1, 4)))


def odd_numbers(rng):
    code = rng.choice([
        0, 1, 8, 9, 10, 11, 12, 13, 0x1B, 0x1F, 38, 59, 60, 0x7F, rng.randint(0x80, 0x9F), 0xA0, 0xAD, 0xD800, 0xD83D,
        0xDCA9, 0xDFFF, 0xFDD0, 0xFDEF, 0xFEFF, 0xFFFD, 0xFFFE, 0xFFFF, 0x1FFFE, 0x10FFFF, 0x110000, 0x11FFFE, 2**32 + 65, 2**70,
    ])  # fmt: skip
    pair = f"&#x{0xD800 + rng.randrange(1024):x};&#x{0xDC00 + rng.randrange(1024):x};"
    number = rng.choice([f"&#{code};", f"&#{code}", f"&#x{code:x};", f"&#x{code:X}", f"&#000{code};", f"&amp;#{code};", pair])
    return rng.choice(["{} {}", "{}{}", "{1} {0}", "<b>{}</b>{}"]).format(label(rng), number)


def quotes(rng):
    left, right = rng.choice(["‘’", "“”", "„“", "‚‘", "«»", "‟”", "‛’"])
    word = rng.choice(["dog’s", "don’t", "they‘re", "I’ve", "we’ll", "it`s", "rock ’n’ roll", "ʼtis", "90’s", "5′ 6″"])
    return rng.choice([f"{left}{label(rng)}{right}", f"{word} {label(rng)}", f"{left}{word}{right}", f"{word}{rng.choice(CURLY)}"])


def ligatures(rng):
    words = ["ﬁeld", "ﬂower", "oﬃce", "waﬄe", "ﬁreplace", "cliﬀ", "ﬆone", "poﬅ", "ĳsbeer", "ŉ hond", "Ǆungla", "ǈubav", "ǋ", "ǳ", "œuvre", "æther"]
    return f"{rng.choice(words)} {rng.choice(LIGATURES)}{label(rng)}"


def widths(rng):
    full = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else "\u3000" if c == " " else c for c in label(rng))
    half = "".join(chr(rng.randint(0xFF61, 0xFF9F)) for _ in range(rng.randint(1, 6)))
    other = "".join(chr(rng.randint(0xFFA0, 0xFFEE)) for _ in range(rng.randint(1, 4)))
    return rng.choice([full, full, half, f"{full}{half}", f"{label(rng)}\u3000{half}", "ｶﾞｷﾞｸﾞ ﾊﾟﾋﾟ", other, "＜ｂ＞＆ａｍｐ；", "￥１００"])


def emoji(rng):
    drawn = "".join(rng.choice(EMOJI) for _ in range(rng.randint(1, 3)))
    return rng.choice([drawn, f"{label(rng)} {drawn}", f"{drawn}{label(rng)}", f"{drawn}!{label(rng)}"])


def combining(rng):
    letters = rng.choice(["cafe", "naive", "Angstrom", "uber", "senor", "Zurich", "Viet Nam", "ομορφος", "ελαφρυ", "и", "がか", "한", "ἀρχῇ"])
    out = ""
    for c in letters:
        out += c + "".join(chr(rng.randint(0x300, 0x345)) for _ in range(rng.choice([0, 0, 1, 1, 2])))
    return rng.choice([out, unicodedata.normalize("NFD", foreign(rng)), unicodedata.normalize("NFKD", out), out + " " + label(rng)])


def controls(rng):
    text = list(label(rng))
    for _ in range(rng.randint(1, 4)):
        c = rng.choice([chr(rng.randint(0, 31)), chr(rng.randint(0x7F, 0x9F)), rng.choice(JOINERS), chr(rng.randint(0x206A, 0x206F)), chr(rng.randint(0xFFF9, 0xFFFD)), "\x1b[1;31m", "\x1b[0m", "\x1b[٣m", "\x1b[;K", "\x1b[2"])  # fmt: skip
        text.insert(rng.randint(0, len(text)), c)
    return "".join(text)


def breaks(rng):
    spaces = ["\r\n", "\n", "\r", "\n\n", "\u2028", "\u2029", "\x85", "\v", "\f"]
    parts = [rng.choice([label, entities, html_tags])(rng) for _ in range(rng.randint(2, 3))]
    return rng.choice(["", rng.choice(SPACES)]) + "".join(part + rng.choice(spaces) for part in parts)


def blanks(rng):
    parts = label(rng).split(" ") + [label(rng), ""]
    return "".join("".join(rng.choice(SPACES) for _ in range(rng.randint(0, 3))) + part for part in parts)


def contractions(rng):
    word = rng.choice(["dog", "it", "I", "you", "we", "they", "don", "WE", "ſ", "x1", "!", "天"])
    end = rng.choice(["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'ſ", "'sd", "'x", "''s", "'", "'re'd've", "'ｓ", "’s"])
    return f"{word}{end} {label(rng)}"


def digits(rng):
    number = rng.choice([str(rng.randint(0, 10**9)), f"{rng.random():.3f}", f"{rng.randint(1, 20)}x{rng.randint(1, 20)}", "1,024", "3.14e-5", "½ ⅓", "Ⅻ ⅷ", "٣٤٥", "१२३", "①②", "x²+y³", "2nd", "4K", "B-52", "0xFF"])
    return rng.choice([number, f"{number} {label(rng)}", f"{label(rng)}{number}"])


def punctuation(rng):
    run = "".join(rng.choice(PUNCTUATION) for _ in range(rng.randint(1, 8)))
    return rng.choice([run, f"{run}{label(rng)}{run}", f"{label(rng)} {run}", "...", "—", "a-b_c", "!?!?!?!?", "(((", "<3", ":-)", "$9.99", "#hashtag", "@home", "C++", "://"])  # fmt: skip


def html_tags(rng):
    inner = rng.choice([label, entities, foreign])(rng)
    tag = rng.choice(["b", "i", "div", "p class='x'", "br/", "a href=\"?a=1&copy=2\""])
    return rng.choice([f"<{tag}>{inner}</{tag.split()[0]}>", f"{inner}<br>{entity(rng)}", f"&lt;{tag}&gt;{inner}", f"<!-- {inner} -->", f"{entity(rng)}\n<{tag}>\n{inner}"])


def specials(rng):
    token = rng.choice(["<start_of_text>", "<end_of_text>", "<|startoftext|>", "<|endoftext|>", "<START_OF_TEXT>", "<ſtart_of_text>", "<end_of_text", "&lt;end_of_text&gt;", "</w>", "<pad>", "<end_of_text><end_of_text>"])
    return rng.choice(["{0}", "{1} {0}", "{0}{1}", "{1}!{0}", "{1}{0}{1}", "{0}'s {1}"]).format(token, label(rng))


def long_text(rng):
    return rng.choice([
        " ".join(label(rng) for _ in range(rng.randint(15, 50))), " ".join(foreign(rng) for _ in range(rng.randint(4, 10))),
        "abcdefghij" * rng.randint(3, 15), "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(60, 160))),
        rng.choice("!-=*.~?") * rng.randint(20, 400), "7" * rng.randint(30, 75), "ha" * rng.randint(20, 80),
        "　" * 50 + label(rng) + " " * 3000, "&amp;" * rng.randint(10, 70), "&" + "amp;" * rng.randint(10, 200) + "lt;",
    ])  # fmt: skip


KINDS = [
    label, sentence, foreign, scripts, entities, odd_numbers, quotes, ligatures, widths, emoji, combining, controls,
    breaks, blanks, contractions, digits, punctuation, html_tags, specials, long_text,
]  # fmt: skip


def mixed(rng):
    """Two strings of other kinds, cut and joined anywhere."""
    first, second = rng.choice(KINDS[1:-1])(rng), rng.choice(KINDS[1:-1])(rng)
    return first[: rng.randint(0, len(first))] + second[rng.randint(0, len(second)) :]


def cut_tokenizer(vocab, folder):
    """open_clip's tokenizer over the first `vocab` - 514 merges of its file."""
    lines = gzip.open(default_bpe()).read().decode("utf-8").split("\n")
    path = Path(folder) / f"{vocab}.txt.gz"
    path.write_bytes(gzip.compress("\n".join(lines[: 1 + vocab - 514]).encode("utf-8")))
    tokenizer = SimpleTokenizer(bpe_path=str(path))
    assert tokenizer.vocab_size == vocab
    return tokenizer


def with_ends(tokenizer, text):
    return [tokenizer.sot_token_id, *tokenizer.encode(text), tokenizer.eot_token_id]


def needs_mojibake_repair(text):
    return ftfy.fix_text(text) != ftfy.fix_text(text, fix_encoding=False)


def writable(text):
    """Whether a Rust string can hold it (no lone surrogate)."""
    return not any(0xD800 <= ord(c) <= 0xDFFF for c in text)


def draw_cases(tokenizer, rng):
    cases, left_out, seen = [], {}, set()
    draws = [("empty", ""), *(("label", text) for text in LABELS)]
    kinds = [*KINDS, mixed]
    while len(cases) < COUNT:
        kind, text = draws.pop(0) if draws else ((make := kinds[len(cases) % len(kinds)]).__name__, make(rng))
        if text in seen or not writable(text):
            continue
        seen.add(text)
        if needs_mojibake_repair(text):
            left_out[kind] = left_out.get(kind, 0) + 1
            continue
        ids = with_ends(tokenizer, text)
        if len(ids) <= CONTEXT:
            cases.append({"kind": kind, "text": text, "clean": tokenizer.clean_fn(text), "ids": ids})
    return cases, left_out


def main():
    rng = random.Random(2203_01546)
    tokenizer = SimpleTokenizer()
    assert tokenizer.vocab_size == VOCAB
    cases, left_out = draw_cases(tokenizer, rng)

    cut = []
    with tempfile.TemporaryDirectory() as folder:
        for vocab in [514, 515, 1024, 5120, 30000, 49407]:
            smaller = cut_tokenizer(vocab, folder)
            for case in rng.sample(cases, 60):
                ids = with_ends(smaller, case["text"])
                if len(ids) <= CONTEXT:
                    cut.append({"vocab": vocab, "text": case["text"], "ids": ids})

    texts = ["dog " * 76, "a photo of a " * 30, "9" * 76, "🦒" * 40, "x" * 1000]
    too_long = [{"text": text, "tokens": len(tokenizer.encode(text))} for text in texts]

    whole = {"cases": cases, "cut": cut, "too_long": too_long, "left_out": left_out}
    text = json.dumps(whole, ensure_ascii=True, separators=(",", ":"))
    (HERE / "tokenizer.json.gz").write_bytes(gzip.compress(text.encode("ascii"), 9, mtime=0))
    print(f"{len(cases)} cases, {len(cut)} with smaller vocabularies; left out for mojibake repair: {left_out}")


if __name__ == "__main__":
    main()
