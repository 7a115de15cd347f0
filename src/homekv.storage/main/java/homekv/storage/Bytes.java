package homekv.storage;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Objects;

/**
 * An immutable byte string, in unsigned lexicographic order: what keys and values are made of.
 *
 * <p>Safe to share between threads. Comparing costs as many bytes as the two have in common.
 *
 * <p>{@link #unsafeWrap} and {@link #unsafeArray} hand an array in and out without a copy; whoever uses them
 * promises that nobody writes to that array again. A broken promise breaks the order of the store.
 */
public final class Bytes implements Comparable<Bytes> {
    private final byte[] array;

    private Bytes(byte[] array) {
        this.array = array;
    }

    /** A byte string with the bytes that {@code bytes} has now. */
    public static Bytes copyOf(byte[] bytes) {
        return new Bytes(bytes.clone());
    }

    /** A byte string of the UTF-8 form of {@code text}. */
    public static Bytes utf8(String text) {
        return new Bytes(text.getBytes(StandardCharsets.UTF_8));
    }

    /** A byte string over {@code bytes} itself, which must never be written to again. */
    public static Bytes unsafeWrap(byte[] bytes) {
        return new Bytes(Objects.requireNonNull(bytes));
    }

    /** The bytes themselves, not a copy; they must never be written to. */
    public byte[] unsafeArray() {
        return array;
    }

    /** A copy of the bytes. */
    public byte[] toByteArray() {
        return array.clone();
    }

    /** The text of which this is the UTF-8 form; malformed bytes become U+FFFD. */
    public String utf8() {
        return new String(array, StandardCharsets.UTF_8);
    }

    /** How many bytes. */
    public int length() {
        return array.length;
    }

    /** Unsigned lexicographic order; a prefix comes before what it begins. */
    @Override
    public int compareTo(Bytes other) {
        return Arrays.compareUnsigned(array, other.array);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Bytes bytes && Arrays.equals(array, bytes.array);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(array);
    }

    /** For messages and debuggers: the first bytes in hexadecimal and the length. */
    @Override
    public String toString() {
        int shownBytes = Math.min(array.length, 32);
        String hex = HexFormat.of().formatHex(array, 0, shownBytes);
        return "Bytes[" + hex + (shownBytes < array.length ? "…" : "") + ", " + array.length + " bytes]";
    }
}
