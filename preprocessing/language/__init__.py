"""Which language a text is in, by fastText's model.

Takes texts; gives labels and probabilities. The rule that uses them is
`preprocessing/rules/language.py`.

    fasttext_model.py      Reads fastText's lid.176.ftz, the model of 176 languages,
                           into plain arrays
    language_kernel.py     Finds each document's likeliest language, in compiled
                           loops over its bytes
    language_names.py      English names of the languages that lid.176 knows, as
                           Unicode's CLDR has them
"""
