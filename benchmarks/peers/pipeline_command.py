"""What `newsie classify TEXT` is measured against: python pipeline_command.py MODEL TEXT"""

import sys

from transformers import pipeline

classifier = pipeline("text-classification", model=sys.argv[1], device="cpu")
print(classifier(sys.argv[2]))
