package homekv.storage;

import java.util.Arrays;
import java.util.Objects;

/**
 * The keys from {@code from}, itself included, up to {@code to}, itself left out. Immutable.
 *
 * <p>A range whose end is not above its beginning holds no key.
 *
 * @param from the first key that may be in it; the empty byte string comes before every key
 * @param to the first key behind it, or null where it has no end
 */
public record Range(Bytes from, Bytes to) {
    private static final Bytes FIRST = Bytes.unsafeWrap(new byte[0]);

    public Range {
        Objects.requireNonNull(from);
    }

    /** Every key. */
    public static Range all() {
        return new Range(FIRST, null);
    }

    /** One key. */
    public static Range key(Bytes key) {
        byte[] array = key.unsafeArray();
        return new Range(key, Bytes.unsafeWrap(Arrays.copyOf(array, array.length + 1)));
    }

    /** The keys that begin with {@code prefix}; all keys where it is empty. */
    public static Range prefix(Bytes prefix) {
        byte[] array = prefix.unsafeArray();
        int length = array.length;
        while (length > 0 && array[length - 1] == (byte) 0xff) {
            length--;
        }
        if (length == 0) {
            return new Range(prefix, null);
        }
        byte[] to = Arrays.copyOf(array, length);
        to[length - 1]++;
        return new Range(prefix, Bytes.unsafeWrap(to));
    }

    /** The keys from {@code from} on. */
    public static Range from(Bytes from) {
        return new Range(from, null);
    }

    /** Whether a key lies in this range. */
    public boolean contains(Bytes key) {
        return from.compareTo(key) <= 0 && (to == null || key.compareTo(to) < 0);
    }

    /** Whether no key can lie in this range. */
    public boolean isEmpty() {
        return to != null && from.compareTo(to) >= 0;
    }

    /** Whether one key at the most can lie in this range, {@code from}. */
    boolean isKey() {
        return to != null
                && to.length() == from.length() + 1
                && to.unsafeArray()[from.length()] == 0
                && Arrays.mismatch(from.unsafeArray(), to.unsafeArray()) == from.length();
    }
}
