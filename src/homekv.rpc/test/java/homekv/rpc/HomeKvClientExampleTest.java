package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertEquals;

import homekv.storage.Bytes;
import homekv.storage.Range;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/** The client's example in README.md does what it says. */
class HomeKvClientExampleTest {
    @Test
    void theExampleInTheReadmeWorks() throws Exception {
        try (Harness kv = new Harness()) {
            List<String> printed = new ArrayList<>();
            try (HomeKvClient client = new HomeKvClient("127.0.0.1", kv.port(), Duration.ofSeconds(5))) {
                Bytes ada = Bytes.utf8("user/ada");
                client.compareAndSet(ada, null, Bytes.utf8("60"));
                client.increment(ada, -10);
                client.transact(transaction -> {
                    transaction.put(Bytes.utf8("user/bob"), transaction.get(ada));
                    return null;
                });
                try (var users = client.scan(ScanOptions.of(Range.prefix(Bytes.utf8("user/"))))) {
                    users.forEachRemaining(user ->
                            printed.add(user.key().utf8() + " " + user.value().utf8()));
                }
            }
            assertEquals(List.of("user/ada 50", "user/bob 50"), printed);
        }
    }
}
