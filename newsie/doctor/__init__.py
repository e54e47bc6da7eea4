"""Checks of a data file before you train on it: the problems in it, and advice on each.

findings      the findings of the checks, and the report of all of them
reading       the file as training reads it: articles, row numbers, label columns
names         labels: too few, too many, inconsistent spellings
texts         texts: empty, short, long, foreign, repeated sentences
copies        duplicates, duplicates with different labels, duplicates in the test file
dates         publication dates, and drift of the labels over time
giveaways     publishers or URLs that give the label away
suspects      labels that are likely wrong
answers       predictions of the running student for the file
examination   all checks, one after the other
fixing        the automatic fixes, and a log of them
rewriting     writing a file again with some rows changed or left out
"""
