package homekv.cli;

import homekv.storage.Bytes;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.Locale;

/**
 * How keys and values are shown and given: UTF-8 text as it is, any other byte and any control character as
 * {@code \xHH}, two hexadecimal digits.
 *
 * <p>That is the only escape, and it is reversible: what is shown, given back, is the same bytes. A backslash stands
 * for itself, except in front of something that would read as an escape, where it is shown as {@code \x5c}. In keys
 * {@code =} is shown as {@code \x3d}, since a pair ends its key at the first one.
 *
 * <p>Text that was typed and text that is printed are both bytes, one {@code char} a byte (Latin-1).
 */
final class Text {
    private static final HexFormat HEX = HexFormat.of();

    /** How many bytes of anything a message shows. */
    private static final int LONGEST_SHOWN = 200;

    private static final String SIZE_UNITS = "kMGTPE";

    private Text() {}

    /** The bytes that {@code typed} stands for. */
    static Bytes bytes(String typed) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream(typed.length());
        for (int i = 0; i < typed.length(); i++) {
            if (isEscape(typed, i)) {
                bytes.write(Integer.parseInt(typed, i + 2, i + 4, 16));
                i += 3;
            } else {
                bytes.write(typed.charAt(i));
            }
        }
        return Bytes.unsafeWrap(bytes.toByteArray());
    }

    /** A key as it is shown in front of a {@code =}. */
    static String showKey(Bytes key) {
        return show(latin1(key), true);
    }

    /** A value as it is shown. */
    static String showValue(Bytes value) {
        return show(latin1(value), false);
    }

    /** A value as it is shown where a space ends it. */
    static String showWord(Bytes value) {
        return showValue(value).replace(" ", "\\x20");
    }

    /** Anything typed, as it is shown in a message: without control characters, and only its beginning if it is long. */
    static String show(String typed) {
        return typed.isEmpty() ? "''" : brief(show(typed, false));
    }

    /** What is shown, as text for a message, and only its beginning if it is long. */
    static String brief(String shown) {
        int end = Math.min(shown.length(), LONGEST_SHOWN);
        while (end < shown.length() && end > 0 && (shown.charAt(end) & 0xc0) == 0x80) {
            end--; // Not within a character.
        }
        return utf8(shown.substring(0, end)) + (end < shown.length() ? "…" : "");
    }

    /** A message of any origin as one line without control characters. */
    static String oneLine(String message) {
        return utf8(show(new String(message.getBytes(StandardCharsets.UTF_8), StandardCharsets.ISO_8859_1), false));
    }

    /** The text that {@code typed} has the bytes of. */
    static String utf8(String typed) {
        return new String(typed.getBytes(StandardCharsets.ISO_8859_1), StandardCharsets.UTF_8);
    }

    /** Whether the bytes are well-formed UTF-8. */
    static boolean isUtf8(Bytes bytes) {
        String latin1 = latin1(bytes);
        for (int i = 0; i < latin1.length(); ) {
            int length = utf8Length(latin1, i);
            if (length == 0) {
                return false;
            }
            i += length;
        }
        return true;
    }

    /** A number of bytes for people: 512 bytes, 1.5 kB, 130 MB. */
    static String size(long bytes) {
        if (bytes < 1000) {
            return bytes == 1 ? "1 byte" : bytes + " bytes";
        }
        double shown = bytes;
        int unit = -1;
        // What would round to a thousand is one of the next unit.
        for (; shown >= 999.5 && unit + 1 < SIZE_UNITS.length(); unit++) {
            shown /= 1000;
        }
        return String.format(Locale.ROOT, shown < 9.95 ? "%.1f" : "%.0f", shown) + " " + SIZE_UNITS.charAt(unit) + "B";
    }

    private static String latin1(Bytes bytes) {
        return new String(bytes.unsafeArray(), StandardCharsets.ISO_8859_1);
    }

    private static String show(String bytes, boolean key) {
        StringBuilder shown = new StringBuilder(bytes.length() + 16);
        for (int i = 0; i < bytes.length(); ) {
            int length = utf8Length(bytes, i);
            boolean escaped =
                    length == 0 || isControl(bytes, i, length) || isEscape(bytes, i) || key && bytes.charAt(i) == '=';
            int end = i + Math.max(1, length);
            for (; i < end; i++) {
                if (escaped) {
                    shown.append("\\x");
                    HEX.toHexDigits(shown, (byte) bytes.charAt(i));
                } else {
                    shown.append(bytes.charAt(i));
                }
            }
        }
        return shown.toString();
    }

    private static boolean isEscape(String bytes, int at) {
        return at + 3 < bytes.length()
                && bytes.charAt(at) == '\\'
                && bytes.charAt(at + 1) == 'x'
                && isHex(bytes.charAt(at + 2))
                && isHex(bytes.charAt(at + 3));
    }

    private static boolean isHex(char c) {
        return c < 128 && Character.digit(c, 16) >= 0;
    }

    /** C0, DEL, and C1 in its UTF-8 form. */
    private static boolean isControl(String bytes, int at, int length) {
        char first = bytes.charAt(at);
        return length == 1 ? first < 0x20 || first == 0x7f : first == 0xc2 && bytes.charAt(at + 1) < 0xa0;
    }

    /** The length of the well-formed UTF-8 sequence here (Unicode 15.0, table 3-7), or 0 if there is none. */
    private static int utf8Length(String bytes, int at) {
        char lead = bytes.charAt(at);
        int length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
        if (at + length > bytes.length()) {
            return 0;
        }
        for (int i = 1; i < length; i++) {
            if ((bytes.charAt(at + i) & 0xc0) != 0x80) {
                return 0;
            }
        }
        char second = length > 1 ? bytes.charAt(at + 1) : 0;
        boolean overlong = lead == 0xe0 && second < 0xa0 || lead == 0xf0 && second < 0x90;
        boolean outside = lead == 0xed && second >= 0xa0 || lead == 0xf4 && second >= 0x90;
        return overlong || outside ? 0 : length;
    }
}
