using System.Text.Json;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Train;

/// <summary>
/// Traces a few training steps of a CUDA stream and writes them as a Chrome trace (chrome://tracing, Perfetto): one row for ranges of the step
/// and one for kernels and copies of each stream. The first steps compile and load kernels and are left out.
/// </summary>
internal sealed class StepProfiler(string path, ComputeStream stream) : IDisposable
{
    private const int FirstStep = 3, Steps = 2;

    private CudaTrace? _trace;
    private int _step;
    private bool _written;

    /// <summary>Before a step.</summary>
    public void Begin()
    {
        _step++;
        if (_step == FirstStep && stream is CudaStream cuda)
        {
            cuda.Trace = _trace = new CudaTrace(cuda);
        }
    }

    /// <summary>After a step.</summary>
    public void End()
    {
        if (_trace is not null && _step == FirstStep + Steps - 1)
        {
            Write();
        }
    }

    /// <summary>Writes what there is when the run ended early.</summary>
    public void Dispose()
    {
        if (_trace is not null)
        {
            Write();
        }
    }

    private void Write()
    {
        var cuda = (CudaStream)stream;
        cuda.Trace = null;
        var spans = _trace!.Read();
        _trace.Dispose();
        _trace = null;
        if (_written)
        {
            return;
        }

        _written = true;
        try
        {
            using var file = File.Create(path);
            using var json = new Utf8JsonWriter(file);
            json.WriteStartObject();
            json.WriteString("displayTimeUnit", "ms");
            json.WriteStartArray("traceEvents");
            foreach (var span in spans)
            {
                json.WriteStartObject();
                json.WriteString("name", span.Name);
                json.WriteString("cat", span.IsRange ? "range" : "device");
                json.WriteString("ph", "X");
                json.WriteNumber("ts", Math.Round(span.StartMicroseconds, 3));
                json.WriteNumber("dur", Math.Round(span.Microseconds, 3));
                json.WriteString("pid", cuda.DeviceName);
                json.WriteString("tid", span.IsRange ? $"stream {span.Stream} ranges" : $"stream {span.Stream}");
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"{path}: cannot write the profile there: {e.Message}", e);
        }
    }
}
