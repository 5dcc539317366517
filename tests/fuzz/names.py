"""150 names that no archive should hold, and that must put no file anywhere."""

from __future__ import annotations

_UP = ["../", "../../", "a/../../", "./../", "a/b/../../../", "..//", "images/../../masks/", "../" * 40]
_ROOTS = ["/", "//", "///etc/", "/tmp/", "/etc/cron.d/", "/proc/self/", "C:/", "c:/windows/", "Z:", "D:/"]
_BACK = ["..\\", "\\", "a\\..\\..\\", "C:\\", "\\\\server\\share\\", "images\\..\\", ".\\"]
_CONTROL = ["\0", "\n", "\r", "\t", "\x1b[2J", "\x7f", "\x08", "\u202e", "\u200b", "\u2066", "\ufeff", "\u2028", "\x85"]
_OWN = ["a.png", "b.tif", "passwd.png", "blobs.tif", "x.npy"]


def hostile() -> list[str]:
    found = [place + own for place in (*_UP, *_ROOTS, *_BACK) for own in _OWN]
    found += [f"a{sign}b.png" for sign in _CONTROL] + [f"{sign}.png" for sign in _CONTROL]
    found += ["", " ", ".", "..", "/", "a//b.png", "a/./b.png", "a/", "/a/", "x" * 400 + ".png", "d/" * 300 + "a.png"]
    found += ["inner.zip", "inner.tar", "a.tar.gz", "b.tgz", "c.7z", "d.rar", "e.npz", "f.tar.xz"]
    return list(dict.fromkeys(found))
