"""CSV files of pictures, typed by hand, exported by spreadsheets, or wrong."""

import os
import time
import unicodedata

import pytest

from src.data.image_csv import read_csv
from src.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """A folder of files, which are not looked into."""
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png", "b/ 2.png "):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "pictures"


def read(folder, content, name="l.csv"):
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(data)
    return read_csv(folder, folder / name)


def rows(listing):
    return list(zip(listing.paths, listing.classes, listing.splits, strict=True))


def refusal(folder, content):
    with pytest.raises(UserError) as caught:
        read(folder, content)
    text = str(caught.value)
    assert text.startswith(f"{folder / 'l.csv'}: ") and "\n" not in text and "; accepted: " in text
    return text.removeprefix(f"{folder / 'l.csv'}: ")


PLAIN = [("a/0.png", "cat", "train"), ("b/0.png", "dog", "train")]


@pytest.mark.parametrize(
    "content",
    [
        "path,label\na/0.png,cat\nb/0.png,dog\n",
        "path,label\r\na/0.png,cat\r\nb/0.png,dog",
        "path,label\ra/0.png,cat\rb/0.png,dog\r",
        "\ufeffpath,label\na/0.png,cat\nb/0.png,dog\n",
        "label,path\ncat,a/0.png\ndog,b/0.png\n",
        "PATH, Label \na/0.png, cat\nb/0.png,dog \n",
        '"path","label"\n"a/0.png","cat"\n"b/0.png","dog"\n',
        'path, "label"\n'.replace(' "label"', "label") + "a/0.png, \"cat\"\n b/0.png ,'dog'\n",
        "path,label\n\na/0.png,cat\n\n\nb/0.png,dog\n\n",
        "path,label\n./a/0.png,cat\na/..//b/0.png,dog\n",
        "path,label\na\\0.png,cat\n.\\b\\0.png,dog\n",
        "path,label\na/0.png,ca\u00adt\nb/0.png,\u200bdog\n",
        'path,label\n"\'a/0.png\'",cat\n"""b/0.png""",dog\n',
        "path,label,split\na/0.png,cat,train\nb/0.png,dog, Training \n",
    ],
)
def test_one_list_written_in_many_ways(folder, content):
    assert rows(read(folder, content)) == PLAIN


@pytest.mark.parametrize(
    ("word", "split"),
    [
        *((word, "train") for word in ("train", "TRAIN", "Training", " train ")),
        *((word, "validation") for word in ("validation", "valid", "val", "dev", "Eval", "VAL")),
        *((word, "test") for word in ("test", "Testing", "TEST\t")),
    ],
)
def test_splits(folder, word, split):
    listing = read(folder, f"path,label,Split\na/0.png,cat,train\nb/0.png,dog,{word}\n")
    assert listing.splits == ["train", split]
    assert listing.origins == dict.fromkeys(["train", split], "l.csv")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "line 1: found columns ''; accepted: path,label or path,label,split"),
        ("\ufeff", "line 1: found columns ''; accepted: "),
        ("path;label\na;b\n", "line 1: found columns 'path;label'; accepted: path,label or"),
        ("path\tlabel\n", "line 1: found columns 'path\\tlabel'; accepted:"),
        ("a/0.png,cat\n", "line 1: found columns 'a/0.png,cat'; accepted:"),
        ("path,label,Path\n", "line 1: found column path twice; accepted: each column once"),
        ("path,label,split, SPLIT\n", "line 1: found column split twice;"),
        ("path,label\na/0.png\n", "line 2: found 1 fields; accepted: 2"),
        ("path,label\n\n\na/0.png,cat,\n", "line 4: found 3 fields; accepted: 2"),
        ("path,label\n,cat\n", "line 2: found path ''; accepted: a path"),
        ("path,label\n  ,cat\n", "line 2: found path '  '; accepted: a path"),
        ("path,label\na/0.png,\u200b\n", "line 2: found label '"),
        ("path,label\na/0.png,cat\nb\0.png,cat\n", "line 3: "),
        (
            "path,label,split\na/0.png,cat,\n",
            "line 2: found split ''; accepted: train, validation or",
        ),
        (
            "path,label,split\na/0.png,cat,train2017\n",
            "line 2: found split 'train2017'; accepted: ",
        ),
        ("path,label,split\na/0.png,cat,\x1b[2J\n", "line 2: found split '\\x1b[2J'; accepted: "),
        (f"path,label,split\na/0.png,cat,{'x' * 9999}\n", "line 2: found split 'xxx"),
        (
            "path,label\na/0.png,cat\n./a/0.png,cat\n",
            "line 3: found path './a/0.png', which is also on line 2;",
        ),
        (
            "path,label\na/0.png,cat\nb/0.png,x\na\\0.png,cat\n",
            "line 4: found path 'a\\0.png', which is also on line 2",
        ),
        (
            "path,label\nnone.png,cat\nx/../none.png,cat\n",
            "line 3: found path 'x/../none.png', which is also on line",
        ),
        ('path,label\na/0.png,cat\n"b/0.png,dog\na/1.png,cat\nb/1.png,dog\n', "line 3: unexpected"),
        ('path,label\n"a/0.png"x,cat\n', "line 2: "),
        ('path,label\na/0.png,"black\ncat"\nb/0.png\n', "line 4: found 1 fields; accepted: 2"),
        ('path,label,split\na/0.png,"black\ncat",x\n', "line 2: found split 'x'; accepted:"),
        (f"path,label\na/0.png,{'x' * 200_000}\n", "line 2: field larger than field limit"),
        (b"path,label\na/0.png,cat\n\xff,x\n", "line 3, byte 23 of the file: not UTF-8; accepted:"),
        ("path,label\na/0.png,cat\n".encode("utf-16"), "line 1, byte 0 of the file: not UTF-8;"),
    ],
)
def test_what_is_wrong_has_its_line(folder, content, expected):
    text = refusal(folder, content)
    assert text.startswith(expected) and len(text) < 250


def test_a_header_alone_lists_nothing(folder):
    assert rows(read(folder, "path,label\n")) == []


def test_columns_that_are_not_read_are_said(folder):
    listing = read(folder, ",path,label,note,\x1b\n0,a/0.png,cat,x,y\n1,b/0.png,dog,,\n")
    assert rows(listing) == PLAIN
    assert listing.warnings == [f"{folder / 'l.csv'}: line 1: ignored columns: '', 'note', '\\x1b'"]


def test_a_label_on_two_lines_is_one_line(folder):
    listing = read(folder, 'path,label\na/0.png,"black\r\n  cat"\nb/0.png,black cat\n')
    assert listing.classes == ["black cat"] * 2


def test_names_that_are_one_are_said(folder):
    listing = read(
        folder, 'path,label\na/0.png,cat\na/1.png, cat\nb/0.png,"""cat"""\nb/1.png,Cat\n'
    )
    assert listing.classes == ["cat", "cat", "cat", "Cat"]
    assert listing.warnings == [
        f"""{folder / "l.csv"}: normalised class names: ' cat' to 'cat', '"cat"' to 'cat'""",
        f"{folder / 'l.csv'}: nearly equal class names, kept as separate classes: 'cat' and 'Cat'",
    ]


@pytest.mark.parametrize("by", ["itself", "link", "another link", "relative", "two slashes"])
def test_absolute_paths_into_the_folder(folder, tmp_path, monkeypatch, by):
    os.symlink(folder, tmp_path / "link")
    os.symlink(tmp_path, tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    given, within = {
        "itself": (folder, folder),
        "link": (tmp_path / "link", folder),
        "another link": (tmp_path / "link", tmp_path / "other" / "pictures"),
        "relative": (type(folder)("pictures"), folder),
        "two slashes": (folder, f"/{folder}"),
    }[by]
    assert rows(read(given, f"path,label\n{within}/a/0.png,cat\n./b/0.png,dog\n")) == PLAIN
    with pytest.raises(UserError, match="line 3: found path .*, which is also on line 2"):
        read(given, f"path,label\n{within}/a/0.png,cat\na/0.png,cat\n")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.png", "a/../../x.png", "/", "..", "."])
def test_paths_that_lead_out_are_left_for_the_reader_of_pictures(folder, path):
    assert read(folder, f"path,label\n{path},cat\n").paths == [os.path.normpath(path)]


def test_a_folder_whose_name_begins_alike_is_another_one(folder, tmp_path):
    assert read(folder, f"path,label\n{folder}2/a/0.png,cat\n").paths == [f"{folder}2/a/0.png"]


def test_space_that_belongs_to_a_file_name(folder):
    assert read(folder, "path,label\nb/ 2.png ,cat\n").paths == ["b/ 2.png "]
    (folder / "a\\0.png").write_bytes(b"")
    assert read(folder, "path,label\na\\0.png,cat\na/0.png,cat\n").paths == ["a\\0.png", "a/0.png"]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_the_unicode_form_of_a_file_name(folder, forms):
    on_disk, in_list = (unicodedata.normalize(form, "é/ü.png") for form in forms)
    (folder / on_disk).parent.mkdir()
    (folder / on_disk).write_bytes(b"")
    assert read(folder, f"path,label\n{in_list},cat\n").paths == [on_disk]
    assert "which is also on line 2;" in refusal(
        folder, f"path,label\n{in_list},cat\n{on_disk},cat\n"
    )


def test_no_such_list(folder):
    with pytest.raises(UserError, match=r"absent.csv: No such file or directory; accepted: a CSV"):
        read_csv(folder, folder / "absent.csv")
    with pytest.raises(UserError, match="accepted"):
        read_csv(folder, folder)


@pytest.mark.parametrize("prefix", ["", "./", "{folder}/"])
def test_long_lists_are_read_fast(folder, prefix):
    prefix = prefix.format(folder=folder)
    content = "".join(f"{prefix}a/{number}.jpg,class {number % 997}\n" for number in range(10_000))
    started = time.process_time()
    listing = read(folder, f"path,label\n{content}")
    assert len(listing.paths) == 10_000 and listing.paths[7] == "a/7.jpg"
    assert time.process_time() - started < 2


def test_groups_are_read_as_labels_are(folder):
    listing = read(folder, "path,label,Group\na/0.png,cat, 'p 1' \nb/0.png,dog,p  1\n")
    assert listing.groups == ["p 1", "p 1"] and not listing.warnings
    assert read(folder, "path,label,group\na/0.png,cat,\nb/0.png,dog,7\n").groups == ["", "7"]
    for content in ("path,label\na/0.png,cat\n", "path,label,group\na/0.png,cat,\n"):
        assert read(folder, content).groups == []


OWN = "path,label,split,is_query,is_gallery\na/1.png,cat,train,,\n"


@pytest.mark.parametrize("yes", ["True", "1", "1.0", " true ", "YES"])
@pytest.mark.parametrize("no", ["False", "0", "0.0", "", "nan"])
def test_queries_and_gallery(folder, yes, no):
    lines = f"a/0.png,cat,test,{yes},{no}\nb/0.png,dog,test,{no},{yes}\nb/1.png,dog,val,,\n"
    listing = read(folder, OWN + lines)
    assert listing.is_query == [False, True, False, False]
    assert listing.is_gallery == [False, False, True, False]


def test_no_roles(folder):
    for value in ("", "False"):
        listing = read(folder, f"{OWN}a/0.png,cat,test,{value},{value}\n")
        assert (listing.is_query, listing.is_gallery) == ([], [])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "a/0.png,cat,test,perhaps,\n",
            "line 3: found is_query 'perhaps'; accepted: true or false",
        ),
        (
            "a/0.png,cat,train,1,\n",
            "line 3: found is_query '1' in the train split; accepted: queries and gallery of the ",
        ),
        (
            "a/0.png,cat,test,1,\nb/0.png,cat,test,0,1\nb/1.png,dog,test,,\n",
            "line 5: found neither is_query nor is_gallery true, but other pictures of the test ",
        ),
        (
            "a/0.png,cat,test,1,\n",
            "found no picture of the test split with is_gallery true; accepted: queries and a ",
        ),
        (
            "a/0.png,cat,val,,1\n",
            "found no picture of the validation split with is_query true; accepted: queries and a ",
        ),
    ],
)
def test_roles_that_make_no_protocol(folder, lines, expected):
    assert refusal(folder, OWN + lines).startswith(expected)
