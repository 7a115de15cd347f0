package homekv.cli;

import homekv.storage.Bytes;
import homekv.storage.Entry;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.HexFormat;

/**
 * Writes pairs as JSON Lines: what is UTF-8 as text, other bytes in base64; see {@link PairReader}. For one thread.
 *
 * <p>The largest value takes up to seven times its size while it is written.
 */
final class PairWriter {
    /** Handed over in pieces of this size and no matter how large a pair is. */
    private static final int PIECE_BYTES = 64 << 10;

    /** The longest that a byte can become: {@code \}{@code u0000}. */
    private static final int LONGEST_ESCAPE = 6;

    private static final HexFormat HEX = HexFormat.of();

    private final OutputStream out;
    private final byte[] piece = new byte[PIECE_BYTES];
    private int length;
    private long bytes;

    PairWriter(OutputStream out) {
        this.out = out;
    }

    /** Writes a line. Some of it may lie here until {@link #flush}. */
    void write(Entry entry) throws IOException {
        ascii("{");
        field("key", entry.key());
        ascii(",");
        field("value", entry.value());
        if (entry.lease() != 0) {
            ascii(",\"lease\":" + entry.lease());
        }
        ascii("}\n");
    }

    /** How many bytes all lines have. */
    long bytes() {
        return bytes + length;
    }

    void flush() throws IOException {
        handOver();
        out.flush();
    }

    private void field(String name, Bytes content) throws IOException {
        if (Text.isUtf8(content)) {
            ascii("\"" + name + "\":\"");
            text(content.unsafeArray());
        } else {
            ascii("\"" + name + "_base64\":\"");
            append(Base64.getEncoder().encode(content.unsafeArray()));
        }
        ascii("\"");
    }

    private void text(byte[] utf8) throws IOException {
        for (byte b : utf8) {
            if (length > PIECE_BYTES - LONGEST_ESCAPE) {
                handOver();
            }
            if (b >= 0 && b < 0x20 || b == '"' || b == '\\') {
                escape(b);
            } else {
                piece[length++] = b;
            }
        }
    }

    private void escape(byte b) throws IOException {
        ascii(
                switch (b) {
                    case '"' -> "\\\"";
                    case '\\' -> "\\\\";
                    case '\n' -> "\\n";
                    case '\r' -> "\\r";
                    case '\t' -> "\\t";
                    default -> "\\u00" + HEX.toHexDigits(b);
                });
    }

    private void ascii(String text) throws IOException {
        append(text.getBytes(StandardCharsets.ISO_8859_1));
    }

    private void append(byte[] more) throws IOException {
        if (more.length > PIECE_BYTES - length) {
            handOver();
        }
        if (more.length > PIECE_BYTES) {
            out.write(more);
            bytes += more.length;
        } else {
            System.arraycopy(more, 0, piece, length, more.length);
            length += more.length;
        }
    }

    private void handOver() throws IOException {
        out.write(piece, 0, length);
        bytes += length;
        length = 0;
    }
}
