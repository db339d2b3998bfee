"""The console's pages."""

from django.urls import path

from .views import start

app_name = "console"

urlpatterns = [
    path("", start.show, name="start"),
]
