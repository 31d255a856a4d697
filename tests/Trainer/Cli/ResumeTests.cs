using Xunit;

namespace Z1Coder.Tests.Trainer.Cli;

/// <summary>Interrupted and resumed is uninterrupted, bit for bit, wherever the interruption falls.</summary>
public sealed class ResumeTests
{
    private const int Kills = 20, Terminations = 8, MostLines = 14, MostMilliseconds = 60;

    [Fact]
    public void Twenty_kills_at_random_moments_change_no_bit()
    {
        using var tiny = new TinyRun();
        Z1Here.Run(tiny.Train("whole")).Succeeded();
        var (model, metrics) = (tiny.FinalModel("whole"), tiny.Metrics("whole"));
        Assert.Equal(2 * (TinyRun.StepsPerStage + 3), metrics.Count);            // a line a step, held-out loss after steps 4, 8 and 12

        var random = new Random(1);
        var (kills, runs, inTraining) = (0, 0, 0);
        var directory = "run0";
        while (kills < Kills)
        {
            using var z1 = Z1.Start(tiny.Train(directory, "--resume"));
            var shown = z1.WaitForLines(random.Next(MostLines));
            Thread.Sleep(random.Next(MostMilliseconds));
            z1.Kill();
            var result = z1.Wait();
            if (result.ExitCode == 0)
            {
                Same(tiny, directory, model, metrics);
                directory = $"run{++runs}";
                continue;
            }

            Assert.Empty(result.Error);
            kills++;
            inTraining += shown && result.Output.Contains(" step ", StringComparison.Ordinal) ? 1 : 0;
        }

        Z1Here.Run(tiny.Train(directory, "--resume")).Succeeded();
        Same(tiny, directory, model, metrics);
        Assert.True(inTraining >= Kills / 4, $"only {inTraining} of {Kills} kills fell into training: the moments are badly chosen");
    }

    [Fact]
    public void A_termination_saves_and_exits_0_and_the_resumed_run_has_the_same_bits()
    {
        using var tiny = new TinyRun();
        Z1Here.Run(tiny.Train("whole")).Succeeded();
        var random = new Random(2);
        var stopped = 0;
        for (var run = 0; stopped < Terminations; run++)
        {
            var directory = $"run{run}";
            for (var complete = false; !complete;)
            {
                var environment = Path.Combine(tiny[directory], "environment.json");
                if (File.Exists(environment))
                {
                    File.Delete(environment);
                }

                using var z1 = Z1.Start(tiny.Train(directory, "--resume"));
                SpinWait.SpinUntil(() => File.Exists(environment) || z1.HasExited);      // the runtime is up, and it listens
                z1.WaitForLines(random.Next(MostLines));
                Thread.Sleep(random.Next(MostMilliseconds));
                z1.Terminate();
                var result = z1.Wait();
                complete = Directory.Exists(Path.Combine(tiny[directory], "stage2", "model"));
                if (complete && result.ExitCode == 143)
                {
                    break;                        // the signal came after the last line of the program
                }

                result.Succeeded();
                if (!complete)
                {
                    Assert.Contains("stopped by SIGTERM", result.Output);
                    Assert.Contains("continue with --resume", result.Output);
                    stopped++;
                }
            }

            Same(tiny, directory, tiny.FinalModel("whole"), tiny.Metrics("whole"));
        }
    }

    [Fact]
    public void A_termination_while_data_are_read_is_heard_before_all_are_read()
    {
        using var tiny = new TinyRun();
        var line = File.ReadAllLines(tiny["stage1.jsonl"])[0];
        File.WriteAllLines(tiny["stage1.jsonl"], Enumerable.Range(0, 150_000).Select(i =>
            line.Replace("stage1-0", $"s-{i}", StringComparison.Ordinal).Replace("Add 0", $"Add {i}", StringComparison.Ordinal)));
        using var z1 = Z1.Start(tiny.Train("run"));
        SpinWait.SpinUntil(() => Directory.Exists(Path.Combine(tiny["run"], "stage1")) || z1.HasExited);
        z1.Terminate();
        var result = z1.Wait().Succeeded();
        Assert.Contains("stopped by SIGTERM while reading its data", result.Output);
        Assert.DoesNotContain(" step ", result.Output);
    }

    [Fact]
    public void A_termination_while_pass_at_1_is_measured_is_heard_and_the_measurement_is_made_up_for()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(3);
        Tasks.Write(tiny["tasks.jsonl"], 8);
        string[] set = ["--set", $"eval.tasks={tiny["tasks.jsonl"]}", "--set", "eval.pass_every=2", "--set", "eval.max_new_tokens=64"];
        var whole = Z1Here.Run(tiny.Train("whole", set));
        if (whole.Error.Contains("bubblewrap", StringComparison.Ordinal))
        {
            Assert.Skip(whole.Error);
        }

        whole.Succeeded();
        var directory = "";
        for (var again = 0; directory.Length == 0; again++)
        {
            Assert.True(again < 10, "it ended before the signal each time");
            using var z1 = Z1.Start(tiny.Train($"run{again}", set));
            z1.WaitForLines(5);                   // two of data, pass@1 before the first step, two steps: it is measuring again
            z1.Terminate();
            var result = z1.Wait();               // 143 where the signal came after the last line of the program
            if (!result.Output.Contains("stage1 step 3/", StringComparison.Ordinal))
            {
                Assert.Contains("stopped by SIGTERM", result.Succeeded().Output);
                Assert.Contains("stage1 step 2 saved", result.Output);
                directory = $"run{again}";
            }
        }

        Z1Here.Run(tiny.Train(directory, [.. set, "--resume"])).Succeeded();
        Assert.Equal(tiny.Metrics("whole", "stage1"), tiny.Metrics(directory, "stage1"));
    }

    [Fact]
    public void A_complete_run_resumes_to_nothing()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(2);
        Z1Here.Run(tiny.Train("run")).Succeeded();
        var before = tiny.Metrics("run", "stage1");
        Assert.DoesNotContain(" step ", Z1Here.Run(tiny.Train("run", "--resume")).Succeeded().Output);
        Assert.Equal(before, tiny.Metrics("run", "stage1"));
    }

    private static void Same(TinyRun tiny, string directory, byte[] model, List<string> metrics)
    {
        Assert.Equal(metrics, tiny.Metrics(directory));
        Assert.True(model.AsSpan().SequenceEqual(tiny.FinalModel(directory)), $"{directory}: the final model differs");
    }
}
