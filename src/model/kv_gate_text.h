// What the gate of KV types is measured on: plain prose, a list, code. Jane Austen, Pride and Prejudice (1813), chapter 1, in the
// public domain; the rest is ours.
#pragma once

#include <string_view>

namespace hearth {

inline constexpr std::string_view kKvGateText =
    R"(It is a truth universally acknowledged, that a single man in possession
of a good fortune, must be in want of a wife.

However little known the feelings or views of such a man may be on his first entering a neighbourhood, this truth is so well
fixed in the minds of the surrounding families, that he is considered the rightful property of some one or other of their
daughters.

"My dear Mr. Bennet," said his lady to him one day, "have you heard that Netherfield Park is let at last?"

Mr. Bennet replied that he had not.

"But it is," returned she; "for Mrs. Long has just been here, and she told me all about it."

Mr. Bennet made no answer.

"Do you not want to know who has taken it?" cried his wife impatiently.

"You want to tell me, and I have no objection to hearing it."

This was invitation enough.

"Why, my dear, you must know, Mrs. Long says that Netherfield is taken by a young man of large fortune from the north of
England; that he came down on Monday in a chaise and four to see the place, and was so much delighted with it, that he agreed
with Mr. Morris immediately; that he is to take possession before Michaelmas, and some of his servants are to be in the house
by the end of next week."

"What is his name?"

"Bingley."

"Is he married or single?"

"Oh! Single, my dear, to be sure! A single man of large fortune; four or five thousand a year. What a fine thing for our girls!"

To read the story with a program, count its words first:

```python
def count_words(text):
    counts = {}
    for word in text.lower().split():
        counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items(), key=lambda pair: -pair[1])
```

1. Monday: he came down in a chaise and four.
2. Before Michaelmas: he takes possession of Netherfield Park.
3. By the end of next week: his servants are in the house.

Who told Mrs. Bennet about the young man of large fortune? It was Mrs. Long, who had just been there.
)";

}  // namespace hearth
