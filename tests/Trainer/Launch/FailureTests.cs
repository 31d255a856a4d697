using System.Diagnostics;
using System.Text;
using Xunit;
using Z1Coder.Tests.Trainer.Cli;

namespace Z1Coder.Tests.Trainer.Launch;

/// <summary>Two ranks of which one or all are killed, held or told to stop: the others end by themselves and say why, and the run goes on to the
/// same bits.</summary>
[Collection("launch")]
public sealed class FailureTests(RankedRun run) : IClassFixture<RankedRun>
{
    private const int Seconds = 6;                             // of the time-out: a busy machine may take some of them for a step
    private const int PipeBytes = 1 << 16;
    private const int Kills = 30, MostLines = RankedRun.Steps + 4, MostMilliseconds = 80;

    [Fact]
    public void A_reader_that_hangs_keeps_back_no_news_of_a_dead_rank_and_misses_no_line()
    {
        var fifo = run["unread"];
        using (var make = Process.Start("mkfifo", [fifo]))
        {
            make.WaitForExit();
        }

        using var reader = new FileStream(fifo, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, 0);
        reader.Write(new byte[PipeBytes]);                     // full before the first line
        var train = run.Train("unread-run", "--set", "train.epochs=100", "--set", "train.max_steps=1000");
        using var z1 = Z1.StartProgram(
            "bash", [("FIFO", fifo)], ["-c", "exec \"$0\" \"$@\" > \"$FIFO\"", Z1.Program, .. RankedRun.Launch(2, ["--grace", "5"], train)]);
        var watch = Stopwatch.StartNew();
        while (run.Published("unread-run").Count == 0)
        {
            Assert.True(watch.Elapsed.TotalSeconds < Z1.LongestSeconds && !z1.HasExited, "no checkpoint");
            Thread.Sleep(50);
        }

        Z1.Signal(z1.Children().First(r => r.Environment.Contains("RANK=1")).Id, "KILL");
        watch.Restart();
        while (!z1.ErrorSoFar.Contains("z1: rank 1 was ended by SIGKILL", StringComparison.Ordinal))
        {
            Assert.True(watch.Elapsed.TotalSeconds < 20, $"no news: {z1.ErrorSoFar}");
            Thread.Sleep(50);
        }

        Assert.Empty(z1.Children());
        var read = new byte[PipeBytes];
        reader.ReadExactly(read);                              // now there is room for all that was said
        Assert.Equal(128 + 9, z1.Wait().ExitCode);
        var text = Encoding.UTF8.GetString(read, 0, reader.Read(read));
        Assert.Contains("stage1 step 1/", text);
        Assert.EndsWith("\n", text);
    }

    [Fact]
    public void Thirty_kills_at_random_moments_of_one_rank_or_all_change_no_bit_and_lose_nothing_published()
    {
        var whole = run.Two();
        var random = new Random(4);
        var (kills, runs, inTraining, ofAll) = (0, 0, 0, 0);
        var directory = "kills0";
        while (kills < Kills)
        {
            var victim = random.Next(3);                       // rank 0, rank 1, or all: the launcher, whose end is theirs
            using var z1 = Z1.Start(RankedRun.Launch(2, ["--grace", "5"], run.Train(directory, "--resume")));
            var shown = z1.WaitForLines(random.Next(MostLines));
            Thread.Sleep(random.Next(MostMilliseconds));
            var before = run.Published(directory);
            var ranks = z1.Children();
            var killed = victim == 2 ? z1.Id : ranks.FirstOrDefault(r => r.Environment.Contains($"RANK={victim}")).Id;
            if (killed != 0)
            {
                Z1.Signal(killed, "KILL");
            }

            var result = z1.Wait();
            ranks.ToList().ForEach(r => WaitForEnd(r.Id));     // of the launcher's children, when it was the one
            var after = run.Published(directory);
            Assert.True(before.Count == 0 || (after.Count > 0 && after[^1] >= before[^1]), $"steps {Show(before)} were published, {Show(after)} are left");
            if (result.ExitCode == 0)
            {
                run.Same(whole, directory);
                directory = $"kills{++runs}";
                continue;
            }

            kills++;
            ofAll += victim == 2 ? 1 : 0;
            inTraining += shown && result.Output.Contains(" step ", StringComparison.Ordinal) ? 1 : 0;
            if (victim < 2)
            {
                Assert.Equal(137, result.ExitCode);
                Assert.Contains($"z1: rank {victim} was ended by SIGKILL after ", result.Error);
            }
        }

        Z1.Run(RankedRun.Launch(2, [], run.Train(directory, "--resume"))).Succeeded();
        run.Same(whole, directory);
        Assert.True(inTraining >= Kills / 3 && ofAll >= Kills / 6, $"of {Kills} kills {inTraining} fell into training and {ofAll} hit all: badly chosen");
    }

    [Fact]
    public void A_held_rank_is_named_by_the_others_within_the_time_out()
    {
        using var z1 = Z1.Start(RankedRun.Launch(2, ["--grace", "1"], run.Train("held", "--timeout", $"{Seconds}", "--set", "train.epochs=100", "--set", "train.max_steps=1000")));
        if (!z1.WaitForLines(4))
        {
            var early = z1.Wait();
            Assert.Fail($"it ended before its first steps: {early.Error}{early.Output}");
        }

        var held = z1.Children().Single(r => r.Environment.Contains("RANK=1")).Id;
        Z1.Signal(held, "STOP");
        var watch = Stopwatch.StartNew();
        var result = z1.Wait();
        Assert.Equal(1, result.ExitCode);
        Assert.True(watch.Elapsed.TotalSeconds < Seconds + 20, $"it took {watch.Elapsed.TotalSeconds:F1} s");
        Assert.Contains("rank 1", result.Error);
        Assert.Contains("z1: rank 0 ended with exit code 1 after ", result.Error);
        WaitForEnd(held);                                      // which SIGKILL reaches although it is held
    }

    [Fact]
    public void A_termination_of_one_rank_saves_the_same_step_on_all_and_exits_0()
    {
        var whole = run.Two();
        for (var rank = 0; rank < 2; rank++)
        {
            var (directory, output) = run.Stopped(
                $"term{rank}", d => RankedRun.Launch(2, [], run.Train(d)), 3 + rank,
                z1 => z1.Children().SingleOrDefault(r => r.Environment.Contains($"RANK={rank}")).Id);
            Assert.Contains(rank == 0 ? "stopped by SIGTERM" : "stopped by a signal to another rank", output);
            Z1.Run(RankedRun.Launch(2, [], run.Train(directory, "--resume"))).Succeeded();
            run.Same(whole, directory);
        }
    }

    [Fact]
    public void A_signal_to_the_launcher_reaches_every_rank_once()
    {
        string[] train = run.Train("signal", "--set", "train.epochs=100", "--set", "train.max_steps=1000", "--stopped-exit-code", "75");
        using var z1 = Z1.Start(RankedRun.Launch(2, ["--restarts", "1"], train));
        Assert.True(z1.WaitForLines(4));
        z1.Terminate();
        var result = z1.Wait();
        Assert.Equal((75, ""), (result.ExitCode, result.Error));         // asked for, and no failure
        Assert.Contains("stopped by SIGTERM", result.Output);
        Assert.NotEmpty(run.Published("signal"));
    }

    [Fact]
    public void Restarts_go_on_from_the_newest_checkpoint_to_the_same_bits_and_are_counted()
    {
        var whole = run.Two();
        Z1Result? result = null;
        for (var again = 0; result is null; again++)
        {
            Assert.True(again < 5, "it ended before it was killed twice");
            result = KilledTwice($"restarts{again}");
            if (result is { } ended)
            {
                Assert.True(ended.ExitCode == 0, ended.Error + ended.Output);
                Assert.Contains("z1: rank 1 was ended by SIGKILL", ended.Error);
                Assert.Contains("restart 1 of 2 in 1 s", ended.Error);
                Assert.Contains("restart 2 of 2 in 2 s", ended.Error);
                Assert.Contains("continues after step", ended.Output);
                run.Same(whole, $"restarts{again}");
            }
        }

        // a failure that comes again is given up after the restarts; a run that was there is not touched
        var failed = Z1.Run(RankedRun.Launch(2, ["--restarts", "1"], run.Train("bad", Explosive)));
        Assert.Equal(1, failed.ExitCode);
        Assert.Contains(", after 1 restart(s) of 1", failed.Error);
        var before = run.Metrics(whole);
        var refused = Z1.Run(RankedRun.Launch(2, ["--restarts", "3"], run.Train(whole)));
        Assert.Equal(1, refused.ExitCode);
        Assert.Contains("already holds a run; add --resume", refused.Error);
        Assert.DoesNotContain("restart", refused.Error);
        Assert.Equal(before, run.Metrics(whole));
    }

    /// <summary>Rank 1 killed, and rank 0 of its restart; null when the run, which is short, ended before.</summary>
    private Z1Result? KilledTwice(string directory)
    {
        using var z1 = Z1.Start(RankedRun.Launch(2, ["--restarts", "2", "--grace", "5"], run.Train(directory)));
        var seen = new HashSet<int>();
        for (var kill = 0; kill < 2; kill++)
        {
            var id = 0;
            Assert.True(SpinWait.SpinUntil(
                () => z1.HasExited || (run.Published(directory).LastOrDefault() > kill
                    && (id = z1.Children().FirstOrDefault(r => r.Environment.Contains($"RANK={1 - kill}") && !seen.Contains(r.Id)).Id) != 0),
                TimeSpan.FromSeconds(60)));
            if (id == 0)
            {
                return null;
            }

            z1.Children().ToList().ForEach(r => seen.Add(r.Id));       // what is still ending belongs to this start
            Z1.Signal(id, "KILL");
            WaitForEnd(id);
        }

        var result = z1.Wait();
        return result.Error.Contains("restart 2 of 2", StringComparison.Ordinal) || result.ExitCode != 0 ? result : null;
    }

    [Fact]
    public void A_pass_at_1_that_rank_0_cannot_measure_ends_all_ranks_and_the_checkpoint_under_way_is_published()
    {
        Tasks.Write(run["tasks.jsonl"], 2);
        File.WriteAllText(run["tasks.jsonl"], File.ReadAllText(run["tasks.jsonl"]).Replace(@"return x \u002B 1", "return x - 1", StringComparison.Ordinal));
        Directory.CreateDirectory(Path.Combine(run["unmeasured"], "stage1"));
        File.WriteAllText(Path.Combine(run["unmeasured"], "stage1", "metrics.jsonl"), "{\"type\":\"pass_at_1\",\"step\":0}\n");     // as if measured
        string[] set = ["--set", $"eval.tasks={run["tasks.jsonl"]}", "--set", "eval.max_new_tokens=8", "--set", "eval.pass_every=2"];
        var result = Z1.Run(RankedRun.Launch(2, [], run.Train("unmeasured", [.. set, "--resume"])));
        if (result.Error.Contains("bubblewrap", StringComparison.Ordinal))
        {
            Assert.Skip(result.Error);
        }

        Assert.Equal(1, result.ExitCode);
        Assert.Contains("z1: The reference solution fails its own tests in 1 of 2 tasks: T/1", result.Error);
        Assert.Contains("stage1 step 2 saved", result.Output);
        Assert.Equal(2, run.Published("unmeasured")[^1]);
    }

    [Fact]
    public void A_bad_step_ends_all_ranks_with_one_sentence()
    {
        var result = Z1.Run(RankedRun.Launch(2, [], run.Train("badstep", Explosive)));
        Assert.Equal(1, result.ExitCode);
        var lines = result.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(2, lines.Length);                         // rank 0's and the launcher's
        Assert.Contains("guard.on_bad_step says stop", lines[0]);
        Assert.Contains("its samples: ", lines[0]);
        Assert.DoesNotContain("[rank 1]", result.Error);
        Assert.Contains("ended with exit code 1", lines[1]);
    }

    private static string[] Explosive =>
        ["--set", "train.lr=1e30", "--set", "train.clip=0", "--set", "train.warmup_steps=0"];

    private static string Show(List<int> steps) => steps.Count == 0 ? "none" : string.Join(", ", steps);

    private static void WaitForEnd(int process) => Assert.True(
        SpinWait.SpinUntil(() => !File.Exists($"/proc/{process}/stat") || File.ReadAllText($"/proc/{process}/stat").Contains(") Z ", StringComparison.Ordinal), TimeSpan.FromSeconds(20)),
        $"process {process} did not end");
}
