"""Articles: reading, cleaning, finding duplicates, splitting, encoding, writing.

articles     the article
formats      which format a source is in
delimited, lines, tables     rows out of CSV, JSON and text, Parquet, Arrow and the hub
records      what these have in common: rows, and rows that cannot be read
columns      which column is the headline, which the body
readers      articles out of rows, with their gold labels
cleaning     text without markup, headlines without the name of the site
duplicates   articles that say the same
splits       train, validation, test
encoding     articles to token ids
writers      rows into files
"""
