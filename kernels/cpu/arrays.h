// NumPy's arrays as the passes see them. A pass is given the Python objects themselves and looks: type, dtype, shape,
// layout. That takes nanoseconds here, and a microsecond an array in Python. The memory layout of an array is what every
// extension module ever compiled for NumPy relies on; where the object's header ends, and which types there are,
// Python says when it loads the library (gb_setup), and tries out (gb_probe).
#pragma once

#include <cstddef>
#include <cstdint>

namespace gb {

enum { DONE = 0, REFUSED = 1 };  // what a pass returns: REFUSED sends the call to NumPy

struct Fields {  // of an array, behind the object's header
    char* data;
    int axes;
    intptr_t* shape;
    intptr_t* strides;
    const void *base, *dtype;
    int flags;
};
constexpr int CONTIGUOUS = 0x1, ALIGNED = 0x100, WRITEABLE = 0x400;  // among the flags, NumPy's numbers

struct Known {
    size_t header;  // bytes before an array's fields; the last word of them is the object's type
    const void *array, *none;  // the type numpy.ndarray, and None
    const void* dtypes[5];     // in the order below; bfloat16 is null until it is there
};
enum Dtype { FLOAT32, FLOAT64, FLOAT16, BFLOAT16, INT64, OTHER };
inline Known known;

struct Array {
    const Fields* fields = nullptr;  // null: None, or nothing that a pass can use
    Dtype dtype = OTHER;
    bool none = false;
    intptr_t size = 0;
    char *begin = nullptr, *end = nullptr;

    Array() = default;
    Array(const void* object) {
        none = object == known.none;
        const char* bytes = static_cast<const char*>(object);
        if (*reinterpret_cast<const void* const*>(bytes + known.header - sizeof(void*)) != known.array) return;
        const Fields* found = reinterpret_cast<const Fields*>(bytes + known.header);
        if ((found->flags & (CONTIGUOUS | ALIGNED)) != (CONTIGUOUS | ALIGNED)) return;
        for (int i = 0; i <= INT64; ++i)
            if (found->dtype == known.dtypes[i]) dtype = Dtype(i);
        if (dtype == OTHER) return;
        size = 1;
        for (int i = 0; i < found->axes; ++i) size *= found->shape[i];
        begin = found->data;
        end = begin + size * (dtype == FLOAT32 ? 4 : dtype == FLOAT16 || dtype == BFLOAT16 ? 2 : 8);
        fields = found;
    }
    template <class T> T* data() const { return reinterpret_cast<T*>(begin); }
    bool is(Dtype wanted) const { return fields && dtype == wanted; }
    bool is(Dtype wanted, intptr_t length) const { return is(wanted) && size == length; }
    bool writeable() const { return fields && fields->flags & WRITEABLE; }
    intptr_t columns() const { return fields->axes ? fields->shape[fields->axes - 1] : 1; }
};

template <class A, class B> bool apart(const A& a, const B& b) { return a.end <= b.begin || b.end <= a.begin; }

// Element by element, an output may be an input, or lie apart from it; half over it, it would be read when overwritten.
inline bool same_or_apart(const Array& a, const Array& b) {
    return apart(a, b) || (a.begin == b.begin && a.end == b.end);
}

inline bool same_shape(const Array& a, const Array& b) {
    if (a.fields->axes != b.fields->axes) return false;
    for (int i = 0; i < a.fields->axes; ++i)
        if (a.fields->shape[i] != b.fields->shape[i]) return false;
    return true;
}

}  // namespace gb
