"""Makes the tables of the polls and one question, as the tutorial does in its shell."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
django.setup()

from django.db import connection  # noqa: E402
from polls.models import Choice, Question  # noqa: E402

with connection.schema_editor() as editor:
    editor.create_model(Question)
    editor.create_model(Choice)
question = Question.objects.create(question_text="What's new?")
question.choice_set.create(choice_text="Not much")
question.choice_set.create(choice_text="The sky")
