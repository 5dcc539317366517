"""Sign-in, the user's account, and the form of a new project."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import login, update_session_auth_hash
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from webapp.projects import services
from webapp.projects.access import signed_in
from webapp.projects.forms import ProjectForm, SignInForm


class SignIn(LoginView):
    template_name = "projects/sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True


@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in_link(request: HttpRequest, token: str) -> HttpResponse:
    """GET does not use up the link, so that a mail scanner cannot; the button's POST does."""
    user = services.signin_link_spend(token) if request.method == "POST" else services.signin_link_user(token)
    if user is None:
        return render(request, "projects/sign_in_link.html", {"spent": True}, status=410)
    if request.method != "POST":
        return render(request, "projects/sign_in_link.html", {"person": user})
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return redirect("home")


@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def account(request: HttpRequest) -> HttpResponse:
    """Sets the user's own password. A user who came by a sign-in link has none yet."""
    user = signed_in(request)
    form_class = PasswordChangeForm if user.has_usable_password() else SetPasswordForm
    form = form_class(user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        update_session_auth_hash(request, user)
        messages.success(request, "Your password is set. Sign in with it from now on.")
        return redirect("account")
    return render(request, "projects/account.html", {"form": form}, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def project_new(request: HttpRequest) -> HttpResponse:
    form = ProjectForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        made = services.project_create(user=signed_in(request), name=form.cleaned_data["name"])
        return redirect("project", made.pk)
    return render(request, "projects/project_new.html", {"form": form}, status=422 if form.errors else 200)
