"""Reading, cleaning, deduplicating, splitting, encoding and writing articles.

articles     the Article class
formats      detection of a source's format
delimited, lines, tables     readers of CSV, JSON Lines and text, Parquet, Arrow and the hub
records      the rows these readers return, and rows that cannot be read
columns      the choice of the headline column, the body column and so on
readers      articles and their gold labels from rows
cleaning     removal of markup, and of site names in headlines
duplicates   exact and near duplicates
splits       train, validation and test splits
encoding     articles to token ids
writers      writers of JSON Lines, CSV and Parquet
"""
