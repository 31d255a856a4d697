using System.Buffers;
using System.Text.Json;
using CommunityToolkit.HighPerformance.Buffers;

namespace Z1Coder.Trainer.Train;

/// <summary>metrics.jsonl (one object a line, flushed as it is written) and a TensorBoard event file beside it.</summary>
public sealed class MetricsLog : IDisposable
{
    private readonly FileStream? _file;
    private readonly TensorBoardWriter? _tensorBoard;
    private readonly ArrayPoolBufferWriter<byte> _line = new();
    private readonly HashSet<(string Type, long Step)> _kept = [];

    /// <summary>Opens the log of a stage. Lines of steps after <paramref name="resumedStep"/> are cut: those steps will run
    /// again.</summary>
    public MetricsLog(string directory, long resumedStep)
    {
        Directory.CreateDirectory(directory);
        var path = Path.Combine(directory, "metrics.jsonl");
        _file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read);
        _file.SetLength(LengthUpTo(_file, resumedStep));
        _file.Seek(0, SeekOrigin.End);
        _tensorBoard = new TensorBoardWriter(Path.Combine(directory, "tensorboard"), resumedStep + 1);
    }

    private MetricsLog()
    {
    }

    /// <summary>Takes everything and writes nothing: of the ranks that leave it to rank 0.</summary>
    public static MetricsLog None() => new();

    /// <summary>Whether an earlier process of this run has already written this line: a resumed run does not measure twice.</summary>
    public bool Has(string type, long step) => _kept.Contains((type, step));

    /// <summary>One optimizer step. <paramref name="mfu"/> is the share of the measured GEMM peak, 0..1.</summary>
    public void Step(in StepMetrics m, double mfu)
    {
        using (var json = Begin("step", m.Step))
        {
            json.WriteNumber("epoch", Math.Round(m.Epoch, 6));
            Number(json, "loss", m.Loss);
            Number(json, "grad_norm", m.GradientNorm);
            json.WriteNumber("lr", m.LearningRate);
            json.WriteNumber("samples", m.Samples);
            json.WriteNumber("tokens", m.Tokens);
            json.WriteNumber("loss_tokens", m.LossTokens);
            json.WriteNumber("micro_batches", m.MicroBatches);
            json.WriteNumber("seconds", Math.Round(m.Seconds, 6));
            json.WriteNumber("tokens_per_second", Math.Round(m.TokensPerSecond, 1));
            json.WriteNumber("mfu", Math.Round(mfu, 4));
            if (m.Fault is not null)
            {
                json.WriteString("fault", m.Fault);
            }

            json.WriteEndObject();
        }

        End();
        _tensorBoard?.Scalar("train/loss", m.Step, m.Loss);
        _tensorBoard?.Scalar("train/grad_norm", m.Step, m.GradientNorm);
        _tensorBoard?.Scalar("train/lr", m.Step, m.LearningRate);
        _tensorBoard?.Scalar("train/tokens_per_second", m.Step, m.TokensPerSecond);
        _tensorBoard?.Scalar("train/mfu", m.Step, mfu);
        _tensorBoard?.Flush();
    }

    /// <summary>Held-out loss, nats per loss token.</summary>
    public void EvalLoss(long step, double loss, long tokens)
    {
        using (var json = Begin("eval_loss", step))
        {
            Number(json, "loss", loss);
            json.WriteNumber("loss_tokens", tokens);
            json.WriteEndObject();
        }

        End();
        _tensorBoard?.Scalar("eval/loss", step, loss);
        _tensorBoard?.Flush();
    }

    /// <summary>pass@1 of the weights after <paramref name="step"/>.</summary>
    public void PassAt1(long step, double passAt1, int tasks, IEnumerable<(string Kind, double PassAt1)> kinds)
    {
        using (var json = Begin("pass_at_1", step))
        {
            json.WriteNumber("pass_at_1", passAt1);
            json.WriteNumber("tasks", tasks);
            json.WriteStartObject("kinds");
            foreach (var (kind, value) in kinds)
            {
                json.WriteNumber(kind, value);
                _tensorBoard?.Scalar($"eval/pass_at_1/{kind}", step, value);
            }

            json.WriteEndObject();
            json.WriteEndObject();
        }

        End();
        _tensorBoard?.Scalar("eval/pass_at_1", step, passAt1);
        _tensorBoard?.Flush();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _file?.Dispose();
        _line.Dispose();
        _tensorBoard?.Dispose();
    }

    private Utf8JsonWriter Begin(string type, long step)
    {
        _line.Clear();
        var json = new Utf8JsonWriter(_line);
        json.WriteStartObject();
        json.WriteString("type", type);
        json.WriteNumber("step", step);
        return json;
    }

    private void End()
    {
        _line.Write("\n"u8);
        _file?.Write(_line.WrittenSpan);
        _file?.Flush();
    }

    /// <summary>JSON has no NaN: what is not finite is written as a string, so that it is seen and not hidden.</summary>
    private static void Number(Utf8JsonWriter json, string name, double value)
    {
        if (double.IsFinite(value))
        {
            json.WriteNumber(name, value);
        }
        else
        {
            json.WriteString(name, value.ToString());
        }
    }

    private long LengthUpTo(FileStream file, long step)
    {
        long kept = 0;
        var bytes = new byte[file.Length];
        file.ReadExactly(bytes);
        for (var start = 0; start < bytes.Length;)
        {
            var length = bytes.AsSpan(start).IndexOf((byte)'\n');
            if (length < 0 || !IsUpTo(bytes.AsMemory(start, length), step))
            {
                break;
            }

            start += length + 1;
            kept = start;
        }

        return kept;
    }

    private bool IsUpTo(ReadOnlyMemory<byte> line, long step)
    {
        try
        {
            using var json = JsonDocument.Parse(line);
            var lineStep = json.RootElement.GetProperty("step").GetInt64();
            if (lineStep > step)
            {
                return false;
            }

            _kept.Add((json.RootElement.GetProperty("type").GetString()!, lineStep));
            return true;
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            return false;
        }
    }
}
