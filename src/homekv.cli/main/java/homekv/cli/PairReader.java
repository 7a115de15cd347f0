package homekv.cli;

import homekv.rpc.HomeKvException;
import homekv.storage.Bytes;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;

/**
 * Reads pairs from JSON Lines (RFC 8259, one object a line): {@code {"key":"text","value":"text"}}, each of the two as
 * text or, with {@code _base64} behind its name, as base64 (RFC 4648, section 4, padded), and the number of a lease where
 * there was one. Strict: anything else is a wrong line, and nothing is read behind one.
 *
 * <p>Blocks where its stream does. Takes a few times the largest key or value, whatever the lines' lengths. For one thread.
 */
final class PairReader {
    static final String HELP = """
            hkvctl export [--prefix P] [--rev R] FILE|-
            hkvctl import [--skip-lines N] FILE|-

            Export writes all keys of one revision, the newest or R, to FILE, which is there once it is complete and
            not before, or to standard output. Import sets what it reads from FILE or standard input, a thousand pairs
            at once; of a key's pairs the last one counts. Keys that are there and not in the file stay.

            The form is JSON Lines, a pair a line, in the order of the keys; import takes them in any order:

              {"key":"user/ada","value":"36"}
              {"key":"photo","value_base64":"/9j/4A==","lease":81}

            A key or value that is UTF-8 is "key" or "value", any other "key_base64" or "value_base64". "lease" is the
            lease that the key was attached to; leases are not imported, and such keys then stay for good. A line has
            one key, one value and nothing else besides.

            A wrong line ends an import: neither it nor any line behind it is set, nor what would have been set at once
            with it. However an import fails, Ctrl-C included, it says how many lines are in for sure, and the command
            that goes on behind them. To import a line twice does no harm.

            Both say on standard error what they did, and on a terminal how far they are.
            """;

    /** A line that is no pair. The message is one line that says where, and what is wrong. */
    static final class WrongLineException extends Exception {
        private static final long serialVersionUID = 1;

        WrongLineException(String message) {
            super(message);
        }

        /** A line of which the server says so. */
        WrongLineException(String message, HomeKvException refusal) {
            super(message, refusal);
        }

        boolean isRefusal() {
            return getCause() != null;
        }
    }

    private static final int BUFFER_BYTES = 64 << 10;

    /** More than any field's name has. */
    private static final int LONGEST_NAME_BYTES = 64;

    /** Far more than a server takes by default. What one is read from may be six times as long. */
    private static final int LONGEST_TEXT_BYTES = 256 << 20;

    /** What is kept for the next text. */
    private static final int KEPT_BYTES = 1 << 20;

    private static final int END = -1;

    private final String name;
    private final InputStream in;
    private final byte[] buffer = new byte[BUFFER_BYTES];
    private int position;
    private int filled;
    private long taken;

    /** The byte at hand, not yet taken. */
    private int next;

    private long line;
    private long lineStart;

    private byte[] text = new byte[BUFFER_BYTES];
    private int textLength;
    private boolean textAscii;

    /**
     * A reader of a stream from its beginning.
     *
     * @param name what messages call the stream
     */
    PairReader(String name, InputStream in) throws IOException {
        this.name = name;
        this.in = in;
        fill();
        if (filled >= 3 && buffer[0] == (byte) 0xef && buffer[1] == (byte) 0xbb && buffer[2] == (byte) 0xbf) {
            position = 3; // The byte order mark that some editors write.
        }
        next = position < filled ? buffer[position] & 0xff : END;
    }

    /** How many lines have been read or skipped. */
    long lines() {
        return line;
    }

    /** How many bytes have been read or skipped. */
    long bytes() {
        return taken + position;
    }

    /** Reads no pair from the next lines; false if there are less. */
    boolean skip(long lines) throws IOException {
        for (long end = line + lines; line < end; line++) {
            if (next == END) {
                return false;
            }
            while (next != '\n' && next != END) {
                take();
            }
            if (next == '\n') {
                take();
            }
        }
        return true;
    }

    /** The pair of the next line, null at the end. */
    Pair next() throws IOException, WrongLineException {
        if (next == END) {
            return null;
        }
        line++;
        lineStart = bytes();
        Pair pair = object();
        space();
        if (next == '\n') {
            take();
        } else if (next != END) {
            throw expected("nothing behind the }");
        }
        return pair;
    }

    private Pair object() throws IOException, WrongLineException {
        Bytes key = null;
        Bytes value = null;
        long lease = 0;
        space();
        symbol('{', "a line such as {\"key\":\"text\",\"value\":\"text\"}");
        do {
            space();
            string("a field in quotes", LONGEST_NAME_BYTES);
            String field = new String(text, 0, textLength, StandardCharsets.UTF_8);
            boolean again = switch (field) {
                case "key", "key_base64" -> key != null;
                case "value", "value_base64" -> value != null;
                case "lease" -> lease != 0;
                default ->
                    throw wrong("unknown field " + shown(field)
                            + "; a pair has key or key_base64, value or value_base64, and perhaps lease");
            };
            if (again) {
                throw wrong("there are two fields for the " + field.replace("_base64", ""));
            }
            space();
            symbol(':', "a colon");
            space();
            switch (field) {
                case "key" -> key = text(field);
                case "key_base64" -> key = base64(field);
                case "value" -> value = text(field);
                case "value_base64" -> value = base64(field);
                default -> lease = lease();
            }
            space();
        } while (tookComma());
        symbol('}', "a comma or }");
        if (key == null || value == null) {
            throw wrong("there is no " + (key == null ? "key" : "value"));
        }
        if (key.length() == 0) {
            throw wrong("the key is empty; a key has at least 1 byte");
        }
        return new Pair(key, value, lease);
    }

    private boolean tookComma() throws IOException {
        if (next != ',') {
            return false;
        }
        take();
        return true;
    }

    private Bytes text(String field) throws IOException, WrongLineException {
        string("the " + field + " as a text in quotes", LONGEST_TEXT_BYTES);
        Bytes bytes = Bytes.unsafeWrap(Arrays.copyOf(text, textLength));
        if (!textAscii && !Text.isUtf8(bytes)) {
            throw wrong("the " + field + " is not UTF-8; other bytes are given as " + field + "_base64");
        }
        return bytes;
    }

    private Bytes base64(String field) throws IOException, WrongLineException {
        string("the " + field + " as base64 in quotes", LONGEST_TEXT_BYTES);
        try {
            byte[] encoded = Arrays.copyOf(text, textLength);
            byte[] bytes = Base64.getDecoder().decode(encoded);
            // The decoder does not mind missing padding and bits that say nothing; there is one form of each value.
            int rest = bytes.length % 3;
            byte[] end = Arrays.copyOfRange(bytes, bytes.length - (rest == 0 ? 0 : rest), bytes.length);
            byte[] endEncoded = Base64.getEncoder().encode(end);
            int endStart = encoded.length - endEncoded.length;
            if (encoded.length % 4 == 0
                    && Arrays.equals(endEncoded, 0, endEncoded.length, encoded, endStart, encoded.length)) {
                return Bytes.unsafeWrap(bytes);
            }
        } catch (IllegalArgumentException e) {
            // Said below, in the same words as for what the decoder does not mind.
        }
        throw wrong("the " + field + " is not base64: A to Z, a to z, 0 to 9, + and /, and = up to a multiple of four");
    }

    private long lease() throws IOException, WrongLineException {
        long number = 0;
        int digits = 0;
        for (; next >= '0' && next <= '9' && number <= (Long.MAX_VALUE - (next - '0')) / 10; digits++) {
            number = number * 10 + (next - '0');
            take();
            if (number == 0) {
                break; // Zero is no lease, and no number begins with it.
            }
        }
        if (digits == 0 || number == 0 || next >= '0' && next <= '9') {
            throw wrong("lease takes a whole number from 1 to " + Long.MAX_VALUE);
        }
        return number;
    }

    // ---- Strings ----

    /** Takes a string into {@link #text}. */
    private void string(String what, int longest) throws IOException, WrongLineException {
        symbol('"', what);
        textLength = 0;
        textAscii = true;
        if (text.length > KEPT_BYTES) {
            text = new byte[BUFFER_BYTES];
        }
        while (next != '"') {
            if (textLength > longest) {
                throw wrong("longer than any key or value can be, " + longest + " bytes");
            }
            if (next == '\\') {
                take();
                escape();
            } else if (next < 0x20) {
                throw expected("the end of a text, a quote");
            } else {
                append(next);
                take();
            }
        }
        take();
    }

    private void escape() throws IOException, WrongLineException {
        int escaped = next;
        switch (escaped) {
            case '"', '\\', '/' -> append(escaped);
            case 'b' -> append('\b');
            case 'f' -> append('\f');
            case 'n' -> append('\n');
            case 'r' -> append('\r');
            case 't' -> append('\t');
            case 'u' -> {
                take();
                unicode();
                return;
            }
            default -> throw expected("one of \"\\/bfnrtu behind the backslash");
        }
        take();
    }

    private void unicode() throws IOException, WrongLineException {
        char unit = codeUnit();
        int codePoint = unit;
        if (Character.isHighSurrogate(unit) && next == '\\') {
            take();
            symbol('u', "the second half of a surrogate pair");
            char low = codeUnit();
            if (Character.isLowSurrogate(low)) {
                codePoint = Character.toCodePoint(unit, low);
            }
        }
        if (codePoint >= Character.MIN_SURROGATE && codePoint <= Character.MAX_SURROGATE) {
            throw wrong("half of a surrogate pair, which no UTF-8 can say");
        }
        if (codePoint < 0x80) {
            append(codePoint);
        } else if (codePoint < 0x800) {
            append(0xc0 | codePoint >> 6);
            append(0x80 | codePoint & 0x3f);
        } else {
            if (codePoint < 0x10000) {
                append(0xe0 | codePoint >> 12);
            } else {
                append(0xf0 | codePoint >> 18);
                append(0x80 | codePoint >> 12 & 0x3f);
            }
            append(0x80 | codePoint >> 6 & 0x3f);
            append(0x80 | codePoint & 0x3f);
        }
    }

    private char codeUnit() throws IOException, WrongLineException {
        int unit = 0;
        for (int i = 0; i < 4; i++) {
            int digit = next >= 0 && next < 0x80 ? Character.digit(next, 16) : -1;
            if (digit < 0) {
                throw expected("four hexadecimal digits behind \\u");
            }
            unit = unit << 4 | digit;
            take();
        }
        return (char) unit;
    }

    private void append(int b) {
        if (textLength == text.length) {
            text = Arrays.copyOf(text, 2 * text.length);
        }
        textAscii &= b < 0x80;
        text[textLength++] = (byte) b;
    }

    // ---- Bytes ----

    private void space() throws IOException {
        while (next == ' ' || next == '\t' || next == '\r') {
            take();
        }
    }

    private void symbol(char symbol, String what) throws IOException, WrongLineException {
        if (next != symbol) {
            throw expected(what);
        }
        take();
    }

    private void take() throws IOException {
        if (++position == filled) {
            fill();
        }
        next = position < filled ? buffer[position] & 0xff : END;
    }

    private void fill() throws IOException {
        taken += position;
        position = 0;
        filled = Math.max(0, in.read(buffer, 0, buffer.length));
    }

    // ---- What is wrong ----

    /** Where a line is, as messages name it. */
    String at(long line) {
        return name + ":" + line + ": ";
    }

    private WrongLineException expected(String what) {
        String found = switch (next) {
            case END -> "the end of the file";
            case '\n' -> "the end of the line";
            default -> "the byte " + Text.show(String.valueOf((char) next));
        };
        return wrong("expected " + what + ", found " + found);
    }

    private WrongLineException wrong(String what) {
        return new WrongLineException(at(line) + what + " (byte " + (bytes() - lineStart + 1) + ")");
    }

    private static String shown(String field) {
        return Text.show(new String(field.getBytes(StandardCharsets.UTF_8), StandardCharsets.ISO_8859_1));
    }
}
