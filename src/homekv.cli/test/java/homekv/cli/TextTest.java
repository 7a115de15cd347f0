package homekv.cli;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import homekv.storage.Bytes;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** How keys and values are shown and given. */
class TextTest {
    private static final int ROUNDS = 2_000;

    @Test
    void whatIsShownGivenBackIsTheSameBytesAndDisturbsNoTerminal() throws Exception {
        Harness.seeded(Harness.count(20, 2_000), random -> {
            for (int i = 0; i < ROUNDS; i++) {
                assertReversible(Bytes.unsafeWrap(Harness.randomContent(random, 40)));
            }
        });
    }

    /** Not random: every escape there could be, behind every doubling of its backslash, cut off everywhere. */
    @Test
    void everyEscapeAndEveryPieceOfOneIsShownReversibly() {
        for (int b = 0; b < 256; b++) {
            for (String format : new String[] {"%02x", "%02X"}) {
                String escape = "\\x" + String.format(format, b);
                for (String text :
                        new String[] {escape, "\\" + escape, "\\\\" + escape, escape + escape, "\\x" + escape}) {
                    for (int end = 0; end <= text.length(); end++) {
                        assertReversible(bytes(text.substring(0, end)));
                        assertReversible(bytes(text.substring(0, end) + (char) b));
                        assertReversible(bytes((char) b + text.substring(0, end)));
                    }
                }
            }
        }
    }

    /** Every pair of bytes alone, and every lead byte with every second and each kind of third and fourth one. */
    @Test
    void everySequenceThatMightBeUtf8IsShownReversibly() {
        int[] ends = {0x00, 0x41, 0x7f, 0x80, 0xa0, 0xbf, 0xc0, 0xff};
        for (int first = 0; first < 256; first++) {
            assertReversible(bytes(first));
            for (int second = 0; second < 256; second++) {
                assertReversible(bytes(first, second));
                for (int third : first < 0xe0 ? new int[] {0x80} : ends) {
                    assertReversible(bytes(first, second, third));
                    for (int fourth : first < 0xf0 ? new int[] {0x80} : ends) {
                        assertReversible(bytes(first, second, third, fourth));
                    }
                }
            }
        }
    }

    private static void assertReversible(Bytes bytes) {
        String word = Text.showWord(bytes);
        assertFalse(word.contains(" "), word);
        assertEquals(bytes, Text.bytes(word), word);
        String value = Text.showValue(bytes);
        String key = Text.showKey(bytes);
        assertEquals(bytes, Text.bytes(value), () -> "shown as " + value);
        assertEquals(bytes, Text.bytes(key), () -> "shown as " + key);
        assertClean(value);
        assertClean(key);
        assertFalse(key.contains("="), () -> "a key with a bare =: " + key);
        assertEquals(value.replace("=", "\\x3d"), key, "a key is shown as a value is, but for =");
    }

    /** Valid UTF-8 without control characters. */
    private static void assertClean(String shown) {
        byte[] bytes = shown.getBytes(StandardCharsets.ISO_8859_1);
        String text = assertDoesNotThrow(
                () -> StandardCharsets.UTF_8
                        .newDecoder()
                        .decode(ByteBuffer.wrap(bytes))
                        .toString(),
                () -> "not UTF-8: " + HexFormat.of().formatHex(bytes));
        assertFalse(text.chars().anyMatch(Character::isISOControl), () -> "control characters: " + text);
    }

    @Test
    void textWithoutControlsAndWithoutWhatReadsAsAnEscapeIsShownAsItIs() throws Exception {
        Harness.seeded(Harness.count(10, 1_000), random -> {
            for (int i = 0; i < ROUNDS; i++) {
                String text = plainText(random);
                assertEquals(Harness.typed(text), Text.showValue(Bytes.utf8(text)));
                assertEquals(Bytes.utf8(text), Text.bytes(Harness.typed(text)), "given as it is");
                String noPair = text.replace("=", "");
                assertEquals(Harness.typed(noPair), Text.showKey(Bytes.utf8(noPair)));
            }
        });
    }

    private static String plainText(SplittableRandom random) {
        StringBuilder text = new StringBuilder();
        Harness.randomText(random, 40)
                .codePoints()
                .filter(codePoint -> !Character.isISOControl(codePoint))
                .forEach(text::appendCodePoint);
        text.insert(
                random.nextInt(2) * text.offsetByCodePoints(0, text.codePointCount(0, text.length()) / 2), "\\xg\\");
        return text.toString().replaceAll("\\\\x(?=[0-9a-fA-F]{2})", "");
    }

    @Test
    void anyTextThatIsTypedStandsForSomeBytes() throws Exception {
        Harness.seeded(Harness.count(5, 500), random -> {
            for (int i = 0; i < ROUNDS; i++) {
                String typed = new String(Harness.randomEscapes(random, 30), StandardCharsets.ISO_8859_1);
                Bytes meant = Text.bytes(typed);
                assertEquals(meant, Text.bytes(Text.showValue(meant)), () -> "typed: " + typed);
            }
        });
    }

    @ParameterizedTest
    @CsvSource({
        "c080, overlong NUL",
        "c1bf, overlong DEL",
        "e08080, overlong in three bytes",
        "e09fbf, the last overlong one in three bytes",
        "f0808080, overlong in four bytes",
        "f08fbfbf, the last overlong one in four bytes",
        "eda080, the first surrogate",
        "edbfbf, the last surrogate",
        "eda0bdedb8ba, a pair of surrogates",
        "f4908080, U+110000",
        "f5808080, a lead byte beyond Unicode",
        "f888808080, a sequence of five bytes",
        "80, a continuation alone",
        "bf, a continuation alone",
        "fe, no byte of UTF-8",
        "ff, no byte of UTF-8",
        "c3, truncated after one of two",
        "e282, truncated after two of three",
        "f09f92, truncated after three of four",
        "c2c2, two lead bytes",
    })
    void bytesThatAreNotUtf8AreAllEscaped(String hex, String what) {
        byte[] bytes = HexFormat.of().parseHex(hex);
        String escaped = hex.replaceAll("(..)", "\\\\x$1");
        assertEquals(escaped, Text.showValue(Bytes.unsafeWrap(bytes)), what);
        assertEquals(escaped, Text.showKey(Bytes.unsafeWrap(bytes)), what);
        String within = "a" + new String(bytes, StandardCharsets.ISO_8859_1) + "z";
        assertEquals("a" + escaped + "z", Text.showValue(bytes(within)), what);
    }

    /** The first and the last character of every length, beside the surrogates too, and what people write. */
    @ParameterizedTest
    @ValueSource(
            strings = {
                " ",
                "~",
                "\u00a0",
                "\u07ff",
                "\u0800",
                "\ud7ff",
                "\ue000",
                "\ufffd",
                "\uffff",
                "\ud800\udc00",
                "\udbff\udfff",
                "🦫",
                "e\u0301",
                "👩‍👩‍👧",
                "中文",
                "שלום"
            })
    void wellFormedCharactersAreShownAsTheyAre(String text) {
        assertEquals(Harness.typed(text), Text.showValue(Bytes.utf8(text)));
        assertEquals(Harness.typed(text), Text.showKey(Bytes.utf8(text)));
        assertEquals(text, Text.show(Harness.typed(text)));
    }

    @ParameterizedTest
    @CsvSource({
        "00, \\x00",
        "0a, \\x0a",
        "0d, \\x0d",
        "09, \\x09",
        "1b, \\x1b",
        "1f, \\x1f",
        "7f, \\x7f",
        "c280, \\xc2\\x80",
        "c285, \\xc2\\x85",
        "c29b, \\xc2\\x9b",
        "c29f, \\xc2\\x9f",
        "5c783431, \\x5cx41",
        "5c784646, \\x5cxFF",
        "5c5c783431, \\\\x5cx41",
        "5c, \\",
        "5c78, \\x",
        "5c7834, \\x4",
        "5c783467, \\x4g",
        "5c6e, \\n",
        "5c583431, \\X41",
    })
    void controlsAndWhatReadsAsAnEscapeAreEscapedAndOtherBackslashesAreNot(String hex, String shown) {
        Bytes bytes = Bytes.unsafeWrap(HexFormat.of().parseHex(hex));
        assertEquals(shown, Text.showValue(bytes));
        assertEquals(bytes, Text.bytes(shown));
    }

    @Test
    void anEqualsSignIsEscapedInKeysOnly() {
        assertEquals("a\\x3db\\x3d", Text.showKey(Bytes.utf8("a=b=")));
        assertEquals("a=b=", Text.showValue(Bytes.utf8("a=b=")));
    }

    @Test
    void hexadecimalDigitsMayBeLargeOrSmall() {
        assertEquals(bytes(0xab, 0xab, 0xab), Text.bytes("\\xab\\xAB\\xaB"));
    }

    /** Fullwidth digits and the like are no hexadecimal digits, though Java takes them for such. */
    @Test
    void onlyAsciiDigitsMakeAnEscape() {
        String typed = Harness.typed("\\x\uff14\uff11");
        assertEquals(Bytes.utf8("\\x\uff14\uff11"), Text.bytes(typed));
        assertEquals(bytes("\\x\u00b2\u00b3"), Text.bytes("\\x\u00b2\u00b3"));
    }

    private static Bytes bytes(String latin1) {
        return Bytes.unsafeWrap(latin1.getBytes(StandardCharsets.ISO_8859_1));
    }

    private static Bytes bytes(int... values) {
        byte[] bytes = new byte[values.length];
        for (int i = 0; i < values.length; i++) {
            bytes[i] = (byte) values[i];
        }
        return Bytes.unsafeWrap(bytes);
    }
}
