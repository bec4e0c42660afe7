"""What the pictures show and how it is called: nouns, backgrounds, superclasses, words for everything else."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    name: str
    synonyms: tuple[str, ...]
    glyphs: tuple[str, ...]
    """Unicode code points, in hexadecimal, of the emoji that show it."""


def _noun(name, synonyms, glyphs):
    return Noun(name, tuple(filter(None, synonyms.split(", "))), tuple(glyphs.split()))


NOUNS = [
    _noun("dog", "puppy, hound", "1f436 1f415 1f9ae"),
    _noun("cat", "kitten, kitty", "1f431 1f408 1f408-200d-2b1b"),
    _noun("horse", "pony", "1f434 1f40e"),
    _noun("pig", "piglet, hog", "1f437 1f416"),
    _noun("elephant", "elephants", "1f418"),
    _noun("duck", "mallard", "1f986"),
    _noun("fish", "fishes", "1f41f 1f420"),
    _noun("frog", "toad", "1f438"),
    _noun("butterfly", "moth", "1f98b"),
    _noun("snail", "slug", "1f40c"),
    _noun("car", "automobile", "1f697 1f698 1f699"),
    _noun("bus", "autobus", "1f68c 1f68d"),
    _noun("truck", "lorry", "1f69a 1f69b"),
    _noun("train", "locomotive", "1f686 1f682"),
    _noun("airplane", "plane, aeroplane", "2708 1f6e9"),
    _noun("boat", "ship, vessel", "26f5 1f6a4 1f6a2"),
    _noun("bicycle", "bike, cycle", "1f6b2"),
    _noun("rocket", "spaceship, spacecraft", "1f680"),
    _noun("tree", "trees", "1f333 1f332 1f334"),
    _noun("flower", "blossom", "1f339 1f33b 1f337 1f33a 1f33c 1f338"),
    _noun("cactus", "cacti", "1f335"),
    _noun("mushroom", "toadstool, fungus", "1f344"),
    _noun("apple", "apples", "1f34e 1f34f"),
    _noun("banana", "bananas", "1f34c"),
    _noun("strawberry", "strawberries", "1f353"),
    _noun("grapes", "grape", "1f347"),
    _noun("carrot", "carrots", "1f955"),
    _noun("pizza", "pizza slice", "1f355"),
    _noun("cake", "birthday cake", "1f382 1f370"),
    _noun("house", "home", "1f3e0 1f3e1"),
    _noun("umbrella", "parasol", "2602 2614 26f1"),
    _noun("ball", "sports ball", "26bd 1f3c0 1f3d0"),
    _noun("guitar", "electric guitar", "1f3b8"),
]

# Never shown in training, not even as a distractor: what they score is zero-shot.
HELD_OUT = [
    _noun("wolf", "", "1f43a"),
    _noun("goat", "", "1f410"),
    _noun("taxi", "", "1f695 1f696"),
    _noun("swan", "", "1f9a2"),
    _noun("lemon", "", "1f34b"),
    _noun("pear", "", "1f350"),
]

BACKGROUNDS = {
    "sky": ["blue sky"],
    "night sky": ["starry sky"],
    "grass": ["lawn", "meadow"],
    "sand": ["beach"],
    "water": ["sea", "ocean"],
    "snow": [],
    "road": ["street", "asphalt"],
    "brick wall": ["bricks"],
    "wall": ["plain wall"],
    "wood floor": ["wooden floor"],
    "soil": ["dirt", "mud"],
    "gravel": ["pebbles"],
}

# Words for a superclass, and its members. Grass is a background and no "plant": pixels of both would be one label's.
SUPERCLASSES = [
    (["animal", "creature"], "dog cat horse pig elephant duck fish frog butterfly snail wolf goat swan"),
    (["mammal"], "dog cat horse pig elephant wolf goat"),
    (["pet"], "dog cat"),
    (["bird"], "duck swan"),
    (["insect"], "butterfly"),
    (["vehicle", "transport"], "car bus truck train airplane boat bicycle rocket taxi"),
    (["aircraft"], "airplane"),
    (["plant", "vegetation"], "tree flower cactus"),
    (["fruit"], "apple banana strawberry grapes lemon pear"),
    (["vegetable"], "carrot"),
    (["food", "something to eat"], "apple banana strawberry grapes carrot pizza cake lemon pear"),
    (["building"], "house"),
    (["musical instrument", "instrument"], "guitar"),
    (["ground"], "grass,sand,snow,road,soil,gravel,wood floor"),
]
SUPERCLASSES = [(words, frozenset(m.split("," if "," in m else " "))) for words, m in SUPERCLASSES]

# "other" is no special label: the text tower is taught that these words mean "nothing that is named".
OTHER = (
    "other,others,background,something else,anything else,everything else,unknown,none,nothing,else,rest,misc,"
    "miscellaneous,unlabeled,void,stuff,things,undefined,other stuff,the rest,unlabelled,irrelevant,ignore,"
    "none of these,whatever"
).split(",")

# Tested as "other", and by name excluded from every training stage.
MEANINGLESS_TEST = (
    "blarg xyzzy foobar qwerty zzzz flumph asdf grobnak wibble vrxt snarfle blorptu quxly drimble zanthor plokwa "
    "jubbix kravnot mezzlo thwimp gorflax yibberd nurple sklonk vombat frindle ozzbik larpuno drezzik wumplat"
).split()

TRAINED = [n.name for n in NOUNS]
HELD_OUT_NAMES = [n.name for n in HELD_OUT]
NAMED = TRAINED + list(BACKGROUNDS)
SYNONYMS = {n.name: list(n.synonyms) for n in NOUNS + HELD_OUT} | BACKGROUNDS
GLYPHS = {n.name: n.glyphs for n in NOUNS + HELD_OUT}


def words_of(name):
    """A thing's name and synonyms."""
    return [name, *SYNONYMS[name]]


def superclasses_of(name):
    """Indices into SUPERCLASSES."""
    return [i for i, (_, members) in enumerate(SUPERCLASSES) if name in members]
