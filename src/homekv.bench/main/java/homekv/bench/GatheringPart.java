package homekv.bench;

import homekv.bench.Report.Value;
import homekv.rpc.LoadGenerator;
import homekv.rpc.LoadGenerator.Callers;
import homekv.rpc.LoadGenerator.Keys;
import homekv.rpc.LoadGenerator.Outcome;
import homekv.rpc.LoadGenerator.Plan;
import homekv.storage.Bytes;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;

/** What many threads get done with one client, which gathers their single gets and sets, and with a call for each. */
final class GatheringPart implements Part {
    private static final int CALLERS = 256;

    @Override
    public void measure(Report report, Setting setting) throws Exception {
        report.part("gathering", "One client of %d threads".formatted(CALLERS));
        Keys keys = new Keys(Bytes.utf8("bench/"), setting.quick() ? 10_000 : 100_000, 100, 0);
        Duration duration = Duration.ofMillis(setting.quick() ? 50 : 1_500);
        report.text(
                "Gets and sets of one key each; what is gathered goes in one call while the one before is under way.");
        Report.Table table = report.table(
                "gathering",
                List.of("call", "threads"),
                List.of(
                        "gathered per s",
                        "a call each per s",
                        "ratio",
                        "gathered per server CPU s",
                        "a call each's",
                        "gathered p50",
                        "a call each's p50",
                        "gathered p99",
                        "a call each's p99"));
        try (Target homeKv = Target.homeKv(setting)) {
            homeKv.load(1).fill(keys);
            for (boolean get : List.of(true, false)) {
                Plan plan = Plan.of(keys, get ? 100 : 0, 1, CALLERS, duration).withWarmUpCalls(CALLERS);
                measure(table, homeKv, get ? "get" : "set", plan, setting);
            }
        }
    }

    private static void measure(Report.Table table, Target homeKv, String call, Plan plan, Setting setting)
            throws InterruptedException {
        Plan[] plans = {
            plan.withCallers(Callers.GATHERED_VIRTUAL_THREADS),
            plan.withCallers(Callers.VIRTUAL_THREADS),
            plan.withCallers(Callers.GATHERED_PLATFORM_THREADS),
            plan.withCallers(Callers.PLATFORM_THREADS)
        };
        List<List<Outcome>> rounds = new ArrayList<>();
        for (Plan each : plans) {
            rounds.add(new ArrayList<>());
            homeKv.run(1, each.withCalls(setting.quick() ? 10_000 : 250_000).withDuration(LoadGenerator.MAX_DURATION));
        }
        for (int round = 0; round < (setting.quick() ? 1 : 5); round++) {
            for (int i = 0; i < plans.length; i++) {
                rounds.get(i).add(homeKv.run(1, plans[i]));
            }
        }
        for (int i = 0; i < plans.length; i += 2) {
            List<Outcome> gathered = rounds.get(i);
            List<Outcome> each = rounds.get(i + 1);
            double[] ratios = new double[gathered.size()];
            for (int round = 0; round < ratios.length; round++) {
                ratios[round] =
                        gathered.get(round).callsPerSecond() / each.get(round).callsPerSecond();
            }
            table.row(
                    List.of(call, i == 0 ? "virtual" : "platform"),
                    WirePart.median(gathered, Outcome::callsPerSecond, "calls/s"),
                    WirePart.median(each, Outcome::callsPerSecond, "calls/s"),
                    Value.median(ratios, "ratio"),
                    WirePart.median(gathered, WirePart::perServerCpuSecond, "calls/s"),
                    WirePart.median(each, WirePart::perServerCpuSecond, "calls/s"),
                    WirePart.percentile(gathered, 50),
                    WirePart.percentile(each, 50),
                    WirePart.percentile(gathered, 99),
                    WirePart.percentile(each, 99));
        }
    }
}
