"""Names of classes that break careless drawing and writing."""

HOSTILE = [
    *("$x$", "a_b^c", "line\nbreak", "\t", "", "<script>alert(1)</script>", "\\frac{1}{", "x" * 80),
    *("猫", "ペンギン", "קופסה", "قط", "🐱", "\ud800lone", "a&b", "%s", "{0}", "naïve"),
]
