#!/usr/bin/env python3
"""Makes the golden data of the tokenizer tests. Maintenance only: the tests read what is committed here.

  make_golden.py text                                  writes scripts.txt (the same bytes every time)
  make_golden.py ids LLAMA_TOKENIZE MODEL.gguf NAME    writes NAME.golden from what llama.cpp's llama-tokenize says

NAME.golden is text: the model's SHA-256, then for the whole of scripts.txt, for each of its parts (separated by a form feed) and
for a text of all special tokens (parsed), the number of ids, the first ids and the SHA-256 of all ids as decimal lines.
"""
import hashlib
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

HERE = pathlib.Path(__file__).parent

# Article 1 of the Universal Declaration of Human Rights, and everyday sentences.
SENTENCES = {
    "english": "All human beings are born free and equal in dignity and rights. They're endowed with reason; it's what we'll need, I'd say.",
    "german": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Straße, Öl, Übermut, größer, daß — „ja“, sagte er.",
    "french": "Tous les êtres humains naissent libres et égaux en dignité et en droits. L'été, qu'est-ce que c'est ? Ça va, où ça ?",
    "spanish": "Todos los seres humanos nacen libres e iguales en dignidad y derechos. ¿Qué pasó? ¡Mañana, señor Núñez!",
    "polish": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności. Zażółć gęślą jaźń.",
    "turkish": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. İstanbul'da ışık, ÇAĞRI, ıssız.",
    "vietnamese": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
    "russian": "Все люди рождаются свободными и равными в своём достоинстве и правах. Съешь же ещё этих мягких булок!",
    "ukrainian": "Всі люди народжуються вільними і рівними у своїй гідності. Її їжак з'їв ґудзик.",
    "greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια. Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία.",
    "chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。第３章：“春眠不觉晓”。",
    "japanese": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。コンピューター、ﾊﾝｶｸ。",
    "korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 안녕하세요!",
    "arabic": "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق. السَّلامُ عَلَيْكُم، ١٢٣٤٥؟",
    "persian": "تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند. ۱۲۳",
    "hebrew": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. שָׁלוֹם עֲלֵיכֶם",
    "hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। १२३ क्षत्रिय",
    "bengali": "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।",
    "tamil": "மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.",
    "thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ๑๒๓ กำลังน้ำ",
    "khmer": "មនុស្សទាំងអស់ កើតមកមានសេរីភាព និងសមភាព",
    "georgian": "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
    "armenian": "Բոլոր մարդիկ ծնվում են ազատ ու հավասար՝ իրենց արժանապատվությամբ։",
    "amharic": "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።",
    "code": "def f(x: int) -> str:\n    return f\"{x!r:>10}\" if x <= 0x7fff else None  # don't\n\nfor (int i = 0; i < n; ++i) { a[i] += b[i] * 3.14e-10f; }\n",
    "markup": "<div class=\"a b\">&nbsp;<b>x</b></div>\n| a | b |\n|---|---|\n| 1 | 2 |\n```json\n{\"k\": [1, 2.5, null, true], \"é\": \"\\u00e9\"}\n```\n",
    "shell": "$ find . -name '*.cc' -print0 | xargs -0 grep -n \"it's\" && echo $?\t# tabs\there\n",
}
EMOJI = ["😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "❤️", "☕", "🧑🏿‍🚀", "1️⃣", "✨", "🤷🏻‍♀️", "🫠", "⌚️", "©️", "‼️"]
ODD = ["\u00a0", "\u202f", "\u2003", "\u3000", "\u2028", "\u2029", "\u0085", "\u200b", "\u200d", "\u200e", "\ufeff", "\u00ad", "\u2060",
       "\ufffd", "\ufffe", "\uffff", "\U000e0001", "\U000e0067", "\ue000", "\U0010ffff", "\u0378", "\u0000", "\u0001", "\u007f", "\u009f",
       "\u180e", "\u1680", "\u205f", "\u034f", "\u0300", "\u0301\u0323", "e\u0301", "\u0345", "ſ", "K", "Å", "ﬁ", "ǅ", "ß", "ẞ", "İ", "ı",
       "½", "²", "Ⅷ", "①", "٣", "৩", "𝟘", "𝒜", "〇", "㊿", "♠", "→", "∑", "€", "₿", "§", "¶", "…", "—", "«»", "‘’", "„“", "´", "`", "¨"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r\n\r\n", " \n", "\n ", "\t\t", " \t ", "\n\n\n", "\r", "\v", "    ", "\u00a0 ", " \u3000"]
CONTRACTIONS = ["I'm", "YOU'RE", "he's", "we'Ve", "'ll", "can't", "D'D", "x'S", "rock'n'roll", "'", "''", "'re", "O'Neil", "l'eau", "''s", "'s", " 's", "’s"]


def assigned(first: int, last: int) -> list[str]:
    return [chr(c) for c in range(first, last) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]


def number(rng: random.Random) -> str:
    form = rng.choice(["{}", "-{}", "{}.{}", "{},{}", "0x{}", "{}e{}", "{}%", "${}", "{}:{}", "{}/{}", "#{}"])
    return form.format(*(str(rng.randrange(10 ** rng.randrange(1, 12))) for _ in range(2)))


def part_of_sentences(rng: random.Random, name: str) -> str:
    words = SENTENCES[name].split(" ")
    out = [SENTENCES[name]]
    for _ in range(215):
        word = rng.choice(words)
        if rng.random() < 0.2:
            word = word.upper() if rng.random() < 0.5 else word.lower()
        if rng.random() < 0.1:
            word = unicodedata.normalize(rng.choice(["NFC", "NFD", "NFKC"]), word)
        if rng.random() < 0.15:
            word += rng.choice([",", ".", "!", "?!", ";", ":", "...", ")", "]", "\"", "'s", "-", "/"])
        if rng.random() < 0.08:
            word += number(rng)
        out.append(word)
        if rng.random() < 0.1:
            out.append(rng.choice(SPACES))
    return " ".join(out)


def parts() -> list[str]:
    rng = random.Random(20240229)
    out = [part_of_sentences(rng, name) for name in SENTENCES]
    out.append("".join(rng.choice(EMOJI) + rng.choice(["", "", " ", "a", "\n"]) for _ in range(300)))
    out.append("".join(rng.choice(ODD) + rng.choice(["", " ", "a", "B", "7", ".", "\n"]) for _ in range(900)))
    out.append("".join(rng.choice(SPACES) + rng.choice(["", "a", "Bc", "9", "!", "é", "中"]) for _ in range(900)))
    out.append(" ".join(rng.choice(CONTRACTIONS) for _ in range(300)))
    out.append(" ".join(number(rng) for _ in range(500)))
    out.append("".join(chr(c) for c in range(0x01, 0x500) if c != 0x0C))
    for first, last in [(0x500, 0x1100), (0x1100, 0x2000), (0x2000, 0x2E00), (0x3000, 0x4DFF), (0x4E00, 0x9FFF), (0xA000, 0xABFF),
                        (0xAC00, 0xD7A3), (0xF900, 0xFFFF), (0x10000, 0x11FFF), (0x1D000, 0x1DFFF), (0x1F000, 0x1FAFF), (0x20000, 0x20FFF)]:
        chars = assigned(first, last)
        text = []
        for _ in range(130):
            text.append("".join(rng.choice(chars) for _ in range(rng.randrange(1, 9))))
            text.append(rng.choice([" ", " ", "", "\n", "1", ".", "-", "a"]))
        out.append("".join(text))
    everything = assigned(0x20, 0x30000)
    out.append("".join(rng.choice(everything) + rng.choice(["", "", " "]) for _ in range(1800)))
    for run in ["a", "A", " ", "\n", "1", "!", "é", "中", "\u0301", "😀", "\t", "\r\n", "=", "ab", " a", "_"]:
        out.append(run * 97)
    out.append("<|im_start|>user\n</s><s>[INST] <0x0A><eos> <bos>▁▁ ▁a <unk><pad><|endoftext|> <start_of_turn> <table><h1>")
    return [part.replace("\f", "") for part in out]


def sha(ids: list[int]) -> str:
    return hashlib.sha256("".join(f"{i}\n" for i in ids).encode()).hexdigest()


def llama_ids(binary: str, model: str, text: bytes, special: bool) -> list[int]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        command = [binary, "-m", model, "-f", file.name, "--ids", "--no-bos", "--no-escape", "--log-disable"]
        out = subprocess.run(command + ([] if special else ["--no-parse-special"]), check=True, capture_output=True).stdout
    return json.loads(out)


def special_text(model: str) -> bytes:
    """Every unknown, control and user-defined token of the file, with something after each (golden_tokens.h makes the same)."""
    import gguf  # only for `ids`
    fields = gguf.GGUFReader(model).fields
    tokens, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"].contents()
    special = [bytes(tokens.parts[tokens.data[i]]) for i, kind in enumerate(kinds) if kind in (2, 3, 4)]
    text = b""
    for i, token in enumerate(special):
        text += token + [b"", b" x", b"hello ", b"\n", b"1"][i % 5]
    return text


def line(name: str, ids: list[int]) -> str:
    return f"{name} {len(ids)} {sha(ids)} {','.join(str(i) for i in ids[:12])}\n"


def main() -> None:
    if sys.argv[1] == "text":
        (HERE / "scripts.txt").write_text("\f".join(parts()), encoding="utf-8", newline="")
        return
    binary, model, name = sys.argv[2:5]
    whole = (HERE / "scripts.txt").read_bytes()
    out = [f"model {hashlib.sha256(pathlib.Path(model).read_bytes()).hexdigest()}\n"]
    out.append(line("whole", llama_ids(binary, model, whole, False)))
    for i, part in enumerate(whole.split(b"\f")):
        out.append(line(f"part{i}", llama_ids(binary, model, part, False)))
    out.append(line("special", llama_ids(binary, model, special_text(model), True)))
    (HERE / f"{name}.golden").write_text("".join(out))


main()
