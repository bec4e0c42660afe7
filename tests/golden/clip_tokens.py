"""CLIP's tokenizer (open_clip's) over a token table that may be shorter than the published one."""

from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode

SINGLE_BYTES = 512  # every byte, within a word and at its end
SPECIALS = ["<start_of_text>", "<end_of_text>"]


def tokenizer(vocab):
    """The tokenizer of a table of `vocab` rows: the first vocab − 514 merges, then start and end."""
    tok = SimpleTokenizer()
    merges = list(tok.bpe_ranks)[: vocab - SINGLE_BYTES - len(SPECIALS)]
    symbols = list(bytes_to_unicode().values())
    words = symbols + [s + "</w>" for s in symbols] + ["".join(m) for m in merges] + SPECIALS
    assert len(words) == len(set(words)) == vocab, f"a table of {vocab} rows cannot be made from this merge list"
    tok.encoder = {word: i for i, word in enumerate(words)}
    tok.decoder = dict(enumerate(words))
    tok.bpe_ranks = {merge: i for i, merge in enumerate(merges)}
    tok.vocab_size, tok.all_special_ids = vocab, [vocab - 2, vocab - 1]
    tok.sot_token_id, tok.eot_token_id = tok.all_special_ids
    return tok
