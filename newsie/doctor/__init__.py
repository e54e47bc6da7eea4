"""A look at a file of articles before it is learnt from: what is wrong with it, and what to do.

findings      what a check finds, and the report of all
reading       the file as training reads it: articles, row numbers, label columns
names         labels: too few, too many, written in several ways
texts         empty, short, long, foreign, the same sentence again and again
copies        duplicates, copies with different labels, copies in the test file
dates         what is published when, and how the labels drift
giveaways     publisher or address telling the label
suspects      labels that are likely wrong
answers       what the running student makes of the file
examination   all checks, one after the other
fixing        what can be put right without asking, and a log of it
rewriting     the same file with some rows changed or left out
"""
