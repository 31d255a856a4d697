using System.Text.Json;
using Xunit;
using Z1Coder.Tests.Trainer.Checkpoints;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Train;

public sealed class MetricsLogTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Every_value_is_in_its_line()
    {
        using (var log = new MetricsLog(_folder["run"], 0))
        {
            log.Step(new StepMetrics(1, 0.5, 6.25, 2.5, 1e-4, 8, 100, 60, 2, 0.25, 1e9, null), 0.125);
            log.Step(new StepMetrics(2, 1, double.NaN, double.PositiveInfinity, 2e-4, 8, 100, 60, 2, 0.25, 1e9, "loss is \"bad\""), 0.125);
            log.EvalLoss(2, 5.5, 77);
            log.PassAt1(2, 0.75, 4, [("easy", 1.0), ("hard", 0.5)]);
        }

        var lines = Lines();
        Assert.Equal(["step", "step", "eval_loss", "pass_at_1"], lines.Select(l => l.GetProperty("type").GetString()));
        Assert.Equal(
            [1, 0.5, 6.25, 2.5, 1e-4, 8, 100, 60, 2, 0.25, 400, 0.125],
            "step epoch loss grad_norm lr samples tokens loss_tokens micro_batches seconds tokens_per_second mfu".Split()
                .Select(k => lines[0].GetProperty(k).GetDouble()));
        Assert.False(lines[0].TryGetProperty("fault", out _));
        Assert.Equal(("NaN", "loss is \"bad\""), (lines[1].GetProperty("loss").GetString(), lines[1].GetProperty("fault").GetString()));
        Assert.Equal(JsonValueKind.String, lines[1].GetProperty("grad_norm").ValueKind);
        Assert.Equal((5.5, 77), (lines[2].GetProperty("loss").GetDouble(), lines[2].GetProperty("loss_tokens").GetInt32()));
        Assert.Equal(0.75, lines[3].GetProperty("pass_at_1").GetDouble());
        Assert.Equal(0.5, lines[3].GetProperty("kinds").GetProperty("hard").GetDouble());
    }

    [Fact]
    public void A_line_is_there_as_soon_as_it_is_written()
    {
        using var log = new MetricsLog(_folder["run"], 0);
        log.EvalLoss(1, 5.5, 77);
        Assert.Single(Lines());
    }

    [Theory]
    [InlineData(0, new long[] { })]
    [InlineData(1, new long[] { 1 })]
    [InlineData(2, new long[] { 1, 2, 2 })]
    [InlineData(3, new long[] { 1, 2, 2, 3 })]
    [InlineData(99, new long[] { 1, 2, 2, 3, 4, 4 })]
    public void Resuming_cuts_what_will_run_again(long resumed, long[] kept)
    {
        using (var log = new MetricsLog(_folder["run"], 0))
        {
            for (var step = 1; step <= 4; step++)
            {
                log.Step(Metrics(step, 6), 0);
                if (step % 2 == 0)
                {
                    log.EvalLoss(step, 5, 1);
                }
            }
        }

        using (var log = new MetricsLog(_folder["run"], resumed))
        {
            log.Step(Metrics(resumed + 1, 7), 0);
        }

        var lines = Lines();
        Assert.Equal([.. kept, resumed + 1], lines.Select(l => l.GetProperty("step").GetInt64()));
        Assert.Equal(7, lines[^1].GetProperty("loss").GetDouble());
        Assert.Equal(2, Directory.GetFiles(_folder["run/tensorboard"]).Length);
    }

    [Theory]
    [InlineData("")]
    [InlineData("{\"type\":\"step\",\"step\":2,\"lo")]                       // torn by a crash
    [InlineData("{\"type\":\"step\",\"step\":2}")]                           // whole, but for its newline
    [InlineData("\0\0\0\0\0\0\0\0\n{\"type\":\"step\",\"step\":2}\n")]       // blocks that never reached the disk
    [InlineData("{\"type\":\"step\"}\n")]
    [InlineData("{\"step\":1.5}\n")]
    [InlineData("{\"step\":\"2\"}\n")]
    [InlineData("[2]\n")]
    public void A_damaged_end_is_cut(string end)
    {
        Directory.CreateDirectory(_folder["run"]);
        File.WriteAllText(_folder["run/metrics.jsonl"], "{\"type\":\"step\",\"step\":1}\n" + end);
        using (var log = new MetricsLog(_folder["run"], 99))
        {
            log.Step(Metrics(2, 7), 0);
        }

        Assert.Equal([1, 2], Lines().Select(l => l.GetProperty("step").GetInt64()));
    }

    private static StepMetrics Metrics(long step, double loss) => new(step, 0, loss, 1, 1e-4, 1, 1, 1, 1, 1, 1, null);

    private List<JsonElement> Lines()
    {
        using var file = new FileStream(_folder["run/metrics.jsonl"], FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        var text = new StreamReader(file).ReadToEnd();
        Assert.True(text.Length == 0 || text[^1] == '\n');
        return [.. text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => JsonDocument.Parse(l).RootElement)];
    }
}
