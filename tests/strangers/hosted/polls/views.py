from django.db.models import F
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import get_object_or_404
from django.urls import reverse

from .models import Question


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse(", ".join(question.question_text for question in Question.objects.all()))


def detail(request: HttpRequest, question_id: int) -> JsonResponse:
    question = get_object_or_404(Question, pk=question_id)
    choices = {choice.choice_text: choice.pk for choice in question.choice_set.all()}
    return JsonResponse({"choices": choices, "token": get_token(request)})


def results(request: HttpRequest, question_id: int) -> JsonResponse:
    question = get_object_or_404(Question, pk=question_id)
    return JsonResponse({choice.choice_text: choice.votes for choice in question.choice_set.all()})


def vote(request: HttpRequest, question_id: int) -> HttpResponse:
    question = get_object_or_404(Question, pk=question_id)
    question.choice_set.filter(pk=request.POST["choice"]).update(votes=F("votes") + 1)
    return HttpResponseRedirect(reverse("polls:results", args=(question.pk,)))
