"""Files that are pictures to one reader and programs to another, under every suffix that is taken. Name -> content.

Each says `RAN` aloud where a browser takes it for a page, a picture with scripts, a style sheet or a script.
"""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import tifffile

from ml_core.data.formats import readers
from ml_core.data.naming import label_tables
from tests.fuzz.bombs import chunk
from tests.fuzz.corpus import GREY, mrc, npy, picture, tiff, zipped

RAN = "cristae-ran"
JS = f"console.log('{RAN}');alert('{RAN}');"
HTML = f'<!doctype html><html><body><script>{JS}</script><img src=x onerror="{JS}"></body></html>'.encode()
SVG = f'<svg xmlns="http://www.w3.org/2000/svg" onload="{JS}"><script>{JS}</script></svg>'.encode()
XHTML = f'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><script>{JS}</script></html>'.encode()
XSLT = (
    '<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="#style"?><x><xsl:stylesheet id="style" version="1.0"'
    ' xmlns:xsl="http://www.w3.org/1999/XSL/Transform"><xsl:template match="/"><html><script>'
    f"{JS}</script></html></xsl:template></xsl:stylesheet></x>"
).encode()
MHTML = (
    b"From: <x>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=b\r\n\r\n--b\r\n"
    b"Content-Type: text/html\r\nContent-Location: http://x/\r\n\r\n" + HTML + b"\r\n--b--\r\n"
)
PDF = (
    f"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R/OpenAction<</S/JavaScript/JS(app.alert('{RAN}');{JS})>>>>endobj\n"
    "2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"
).encode()
SUFFIXES = sorted(readers.SUFFIXES | label_tables.SUFFIXES)
NAMES = (
    f'<img src=x onerror="{JS}">.png',
    f"<svg onload={JS}>.png",
    f"'-{JS}-'.tif",
    f'" onfocus="{JS}" autofocus x=".png',
    "javascript:alert(1).png",
    "{{ 7 }}{% load x %}.png",
    "a.html.png",
    "picture.svg",
    "picture.svgz",
    "page.html",
    "page.xhtml",
    "page.mhtml",
    "page.pdf",
    "page.js",
    "a.png.html",
    f"=cmd('{RAN}').png",
)
"""Names that would run where a page repeats them as they are, or that ask for the wrong type."""


def contents(folder: Path) -> dict[str, bytes]:
    """The kinds of file."""
    png = picture(GREY, "PNG")
    jpeg = picture(GREY, "JPEG")
    comment = jpeg[:2] + b"\xff\xfe" + (len(HTML) + 2).to_bytes(2, "big") + HTML + jpeg[2:]
    script = b"*/=1;" + JS.encode() + b"/*"
    words = chunk(b"tEXt", b"Comment\0" + HTML) + chunk(b"zTXt", b"x\0\0" + zlib.compress(SVG))
    told = io.BytesIO()
    tifffile.imwrite(told, GREY, description=HTML.decode(), metadata=None)
    return {
        "html": HTML,
        "svg": SVG,
        "svgz": gzip.compress(SVG),
        "xhtml": XHTML,
        "xslt": XSLT,
        "mhtml": MHTML,
        "pdf": PDF,
        "script": JS.encode(),
        "gif-script": b"GIF89a/*" + bytes(20) + b"*/=1;" + JS.encode(),
        "zip-html": HTML + zipped({"index.html": HTML}),
        "png-html": png + HTML,
        "png-text": png[:33] + words + png[33:],
        "jpeg-comment": comment,
        "jpeg-script": jpeg[:2] + b"\xff\xfe" + (len(script) + 2).to_bytes(2, "big") + script + jpeg[2:],
        "tiff-html": told.getvalue(),
        "tiff-svg": tiff(GREY) + SVG,
        "npy-html": npy(GREY) + HTML,
        "mrc-html": mrc(GREY, folder) + HTML,
    }


def polyglots(folder: Path) -> dict[str, bytes]:
    """Every kind under every suffix, and hostile names with a picture in them."""
    found = {f"images/{kind}{suffix}": content for kind, content in contents(folder).items() for suffix in SUFFIXES}
    inside = contents(folder)["png-html"]
    return found | {f"names/{name}": inside + name.encode() for name in NAMES}
