/// \file
/// Constants that are stored as codes: three times over, or loaded while the design runs.
///
/// A word is a code in two's complement, cut off at the width of its number. Triple modular redundancy takes what two of
/// three copies say, bit by bit; copies that stand in the source are volatile, since what a compiler may not assume to
/// be equal it does not merge.

#ifndef QAPSULE_VOTER_H
#define QAPSULE_VOTER_H

#include <type_traits>

#include "pragmas.h"

namespace qapsule {

template <class W, class Row, class Col>
struct coo;
template <class W, class Index>
struct tap;
template <class Number, int FRAC>
class ternary;

/// The majority of each bit of three words: one wrong copy changes nothing.
template <class Word>
constexpr Word vote(Word a, Word b, Word c) {
    static_assert(std::is_unsigned<Word>::value, "qapsule::vote: the copies are codes in unsigned words");
    typedef decltype(Word() + 0U) wide;  // C++ computes with no narrower words, and with these unsigned
    return static_cast<Word>((wide(a) & wide(b)) | (wide(a) & wide(c)) | (wide(b) & wide(c)));
}

namespace detail {

/// void for a table of entries; a table of rows has a function of its own.
template <class T>
using plain = typename std::enable_if<!std::is_array<T>::value>::type;

// The number with this code, as each type takes it; the others do not compile.
template <class T>
auto restore(T& x, unsigned long long code) -> decltype(void(x.range() = code)) {
    x.range() = code;
}
template <class T>
auto restore(T& x, unsigned long long code) -> decltype(x.template slc<T::width>(0), void()) {
    const decltype(x.template slc<T::width>(0)) bits(code);
    x.set_slc(0, bits);
}
template <class T>
auto restore(T& x, unsigned long long code) -> decltype(void(T::from_raw(typename T::raw_type()))) {
    // The bits above the width are those of the sign.
    constexpr unsigned long long sign = T::is_signed ? 1ULL << (T::width - 1) : 0;
    x = T::from_raw(static_cast<typename T::raw_type>((code ^ sign) - sign));
}
template <class T>
auto restore(T& x, unsigned long long code) -> typename std::enable_if<std::is_integral<T>::value>::type {
    x = static_cast<T>(code);
}

template <class Number, int FRAC>
void restore(ternary<Number, FRAC>& x, unsigned long long code) {
    Number number;
    restore(number, code);
    x = ternary<Number, FRAC>(number);
}

template <class Word, int FIELDS>
void majority(Word (&words)[FIELDS], const volatile Word (&a)[FIELDS], const volatile Word (&b)[FIELDS],
              const volatile Word (&c)[FIELDS]) {
    QAPSULE_INLINE
    QAPSULE_UNROLLED(fields)
    for (int k = 0; k < FIELDS; ++k) {
        QAPSULE_UNROLL
        words[k] = vote<Word>(a[k], b[k], c[k]);
    }
}

/// The words of one entry of a table: a number is one, an entry with indices has one for each field.
template <class T, class Word>
void assemble(T& entry, const Word (&words)[1]) {
    restore(entry, words[0]);
}
template <class W, class Row, class Col, class Word>
void assemble(coo<W, Row, Col>& entry, const Word (&words)[3]) {
    restore(entry.row, words[0]);
    restore(entry.col, words[1]);
    restore(entry.weight, words[2]);
}
template <class W, class Index, class Word>
void assemble(tap<W, Index>& entry, const Word (&words)[2]) {
    restore(entry.input, words[0]);
    restore(entry.weight, words[1]);
}

/// How many words an entry of a table is.
template <class T>
struct fields {
    enum : int { count = 1 };
};
template <class W, class Row, class Col>
struct fields<coo<W, Row, Col> > {
    enum : int { count = 3 };
};
template <class W, class Index>
struct fields<tap<W, Index> > {
    enum : int { count = 2 };
};

/// How many words of a bus a code is.
template <class Word>
struct on_bus {
    enum : int { words = sizeof(Word) > sizeof(unsigned int) ? 2 : 1 };
};

/// Word number `part` of an entry, as it comes from the bus: the lower half of a code before the upper one.
template <class Word, int FIELDS>
void collect(Word (&codes)[FIELDS], int part, unsigned int word) {
    QAPSULE_INLINE
    constexpr int words = on_bus<Word>::words;
    const unsigned long long bits = word;
    Word& code = codes[part / words];
    code = static_cast<Word>(part % words == 0 ? bits : code | bits << 32U);
}

}  // namespace detail

/// table[i] = what two of the three copies of its words say.
template <class T, class Word, int N, int FIELDS>
detail::plain<T> vote(const volatile Word (&a)[N][FIELDS], const volatile Word (&b)[N][FIELDS],
                      const volatile Word (&c)[N][FIELDS], T (&table)[N]) {
    QAPSULE_INLINE
    QAPSULE_PARTITION(a, 0)
    QAPSULE_PARTITION(b, 0)
    QAPSULE_PARTITION(c, 0)
    QAPSULE_UNROLLED(entries)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        Word words[FIELDS];
        detail::majority(words, a[i], b[i], c[i]);
        detail::assemble(table[i], words);
    }
}

/// The same for a table of rows, whose entries follow each other in the copies.
template <class T, class Word, int N, int FIELDS, int ROWS, int COLUMNS>
void vote(const volatile Word (&a)[N][FIELDS], const volatile Word (&b)[N][FIELDS],
          const volatile Word (&c)[N][FIELDS], T (&table)[ROWS][COLUMNS]) {
    static_assert(N == ROWS * COLUMNS, "qapsule::vote: the copies must have an entry for each of the table");
    QAPSULE_INLINE
    QAPSULE_PARTITION(a, 0)
    QAPSULE_PARTITION(b, 0)
    QAPSULE_PARTITION(c, 0)
    QAPSULE_UNROLLED(rows)
    for (int row = 0; row < ROWS; ++row) {
        QAPSULE_UNROLL
        QAPSULE_UNROLLED(columns)
        for (int column = 0; column < COLUMNS; ++column) {
            QAPSULE_UNROLL
            const int i = row * COLUMNS + column;
            Word words[FIELDS];
            detail::majority(words, a[i], b[i], c[i]);
            detail::assemble(table[row][column], words);
        }
    }
}

/// table[i] = what its words say, which are stored once.
template <class T, class Word, int N, int FIELDS>
detail::plain<T> load(const Word (&words)[N][FIELDS], T (&table)[N]) {
    QAPSULE_INLINE
    QAPSULE_UNROLLED(entries)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        detail::assemble(table[i], words[i]);
    }
}

/// The same for a table of rows.
template <class T, class Word, int N, int FIELDS, int ROWS, int COLUMNS>
void load(const Word (&words)[N][FIELDS], T (&table)[ROWS][COLUMNS]) {
    static_assert(N == ROWS * COLUMNS, "qapsule::load: there must be words for each entry of the table");
    QAPSULE_INLINE
    QAPSULE_UNROLLED(rows)
    for (int row = 0; row < ROWS; ++row) {
        QAPSULE_UNROLL
        QAPSULE_UNROLLED(columns)
        for (int column = 0; column < COLUMNS; ++column) {
            QAPSULE_UNROLL
            detail::assemble(table[row][column], words[row * COLUMNS + column]);
        }
    }
}

/// table[i] = what the words on a bus say from word `FIRST` on, one of them per cycle. A `Word` holds any of the codes.
template <int FIRST, class Word, class T, int N>
detail::plain<T> reload(const unsigned int* bus, T (&table)[N]) {
    constexpr int parts = detail::fields<T>::count * detail::on_bus<Word>::words;
    Word codes[detail::fields<T>::count] = {};
    QAPSULE_PARTITION(codes, 0)
    int part = 0;
    int i = 0;
    QAPSULE_PIPELINED(words, 1)
    for (int at = FIRST; at < FIRST + N * parts; ++at) {
        QAPSULE_PIPELINE(1)
        detail::collect(codes, part, bus[at]);
        ++part;
        if (part == parts) {
            detail::assemble(table[i], codes);
            part = 0;
            ++i;
        }
    }
}

/// The same for a table of rows. Each is written at once: where a row is one word of a memory, an entry cannot be.
template <int FIRST, class Word, class T, int ROWS, int COLUMNS>
void reload(const unsigned int* bus, T (&table)[ROWS][COLUMNS]) {
    constexpr int parts = detail::fields<T>::count * detail::on_bus<Word>::words;
    Word codes[detail::fields<T>::count] = {};
    QAPSULE_PARTITION(codes, 0)
    T line[COLUMNS];
    QAPSULE_PARTITION(line, 0)
    int part = 0;
    int column = 0;
    int row = 0;
    QAPSULE_PIPELINED(words, 1)
    for (int at = FIRST; at < FIRST + ROWS * COLUMNS * parts; ++at) {
        QAPSULE_PIPELINE(1)
        detail::collect(codes, part, bus[at]);
        ++part;
        if (part == parts) {
            detail::assemble(line[column], codes);
            part = 0;
            ++column;
        }
        if (column == COLUMNS) {
            QAPSULE_UNROLLED(columns)
            for (int k = 0; k < COLUMNS; ++k) {
                QAPSULE_UNROLL
                table[row][k] = line[k];
            }
            column = 0;
            ++row;
        }
    }
}

/// The same for one of several copies, which holds codes.
template <int FIRST, class Word, int N, int FIELDS>
void reload_copy(const unsigned int* bus, volatile Word (&copy)[N][FIELDS]) {
    constexpr int parts = FIELDS * detail::on_bus<Word>::words;
    Word codes[FIELDS] = {};
    QAPSULE_PARTITION(codes, 0)
    int part = 0;
    int i = 0;
    QAPSULE_PIPELINED(words, 1)
    for (int at = FIRST; at < FIRST + N * parts; ++at) {
        QAPSULE_PIPELINE(1)
        detail::collect(codes, part, bus[at]);
        ++part;
        if (part == parts) {
            QAPSULE_UNROLLED(fields)
            for (int k = 0; k < FIELDS; ++k) {
                QAPSULE_UNROLL
                copy[i][k] = codes[k];
            }
            part = 0;
            ++i;
        }
    }
}

}  // namespace qapsule

#endif  // QAPSULE_VOTER_H
