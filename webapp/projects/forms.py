"""Forms of users and projects."""

from __future__ import annotations

from django import forms
from django.contrib.auth.forms import AuthenticationForm

from webapp.projects.models import User


class SignInForm(AuthenticationForm):
    """Accepts the user's name or e-mail address."""

    error_messages = {
        "invalid_login": "No account has this name and password. Check both; capitals count in the password.",
        "inactive": "This account is switched off. Ask the administrator of this server.",
    }

    def clean_username(self) -> str:
        given: str = self.cleaned_data["username"]
        if "@" not in given:
            return given
        user = User.objects.filter(email__iexact=given).first()
        return user.username if user else given


class ProjectForm(forms.Form):
    name = forms.CharField(
        max_length=200,
        error_messages={"required": "Give the project a name.", "max_length": "At most 200 characters."},
    )
