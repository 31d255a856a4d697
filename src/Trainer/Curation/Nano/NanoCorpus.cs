using System.Security.Cryptography;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>
/// The data of the nano recipe, made from nothing but a seed: two training stages written by a scripted teacher, the same problems
/// answered without reasoning, and a held-out benchmark. The same options give the same bytes.
/// </summary>
public static class NanoCorpus
{
    /// <summary>Stage 1: plain problems, reasoning and program.</summary>
    public const string Stage1 = "stage1.jsonl";

    /// <summary>Stage 2: self-invoking problems with a share of plain ones.</summary>
    public const string Stage2 = "stage2.jsonl";

    /// <summary>The problems of stage 1, program only.</summary>
    public const string Stage1Answers = "stage1-answers.jsonl";

    /// <summary>The problems of stage 2, program only.</summary>
    public const string Stage2Answers = "stage2-answers.jsonl";

    /// <summary>The benchmark.</summary>
    public const string HeldOut = "heldout.jsonl";

    /// <summary>The part of the benchmark that is measured during training.</summary>
    public const string Probe = "probe.jsonl";

    /// <summary>Counts and hashes.</summary>
    public const string Manifest = "manifest.json";

    // The streams of draws; each held-out stream takes the next number too, for its test inputs.
    private const ulong Stage1Stream = 1;
    private const ulong Stage2Stream = 2;
    private const ulong PlainStream = 10;
    private const ulong SelfInvokingStream = 20;

    private static readonly JsonWriterOptions s_oneLine = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private static readonly JsonWriterOptions s_indented = new() { Indented = true, NewLine = "\n" };

    /// <summary>Writes every file into <paramref name="directory"/> (made if absent; files of the same names are replaced).</summary>
    public static NanoManifest Write(string directory, NanoOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        Expect(options.Stage1Problems >= 0 && options.Stage2Problems >= 0, "nano: the counts of training problems must not be negative");
        Expect(options.Stage2PlainPercent is >= 0 and <= 100, "nano: stage2-plain-percent must be 0 to 100");
        Expect(options.HeldOutPlain >= 0 && options.HeldOutSelfInvoking >= 0, "nano: the held-out counts must not be negative");
        Expect(options.Probe >= 0 && (options.Probe + 1) / 2 <= options.HeldOutPlain && options.Probe / 2 <= options.HeldOutSelfInvoking,
            "nano: the probe takes half of its problems from each kind of the benchmark and cannot be larger than that");
        Directory.CreateDirectory(directory);

        var stage1 = NanoGenerator.Training(options.Seed, Stage1Stream, options.Stage1Problems, plainPercent: 100);
        var stage2 = NanoGenerator.Training(options.Seed, Stage2Stream, options.Stage2Problems, options.Stage2PlainPercent);
        var plain = NanoHeldOut.Make(options.Seed, PlainStream, options.HeldOutPlain, selfInvoking: false);
        var selfInvoking = NanoHeldOut.Make(options.Seed, SelfInvokingStream, options.HeldOutSelfInvoking, selfInvoking: true);
        List<NanoHeldOut> heldOut = [.. plain, .. selfInvoking];
        List<NanoHeldOut> probe = [.. plain.Take((options.Probe + 1) / 2), .. selfInvoking.Take(options.Probe / 2)];

        List<NanoFile> files =
        [
            WriteTraining(directory, Stage1, "nano-1", stage1, t => NanoTeacher.Respond(t, options.WorkedExample)),
            WriteTraining(directory, Stage2, "nano-2", stage2, t => NanoTeacher.Respond(t, options.WorkedExample)),
            WriteTraining(directory, Stage1Answers, "nano-1", stage1, NanoTeacher.Answer),
            WriteTraining(directory, Stage2Answers, "nano-2", stage2, NanoTeacher.Answer),
            WriteHeldOut(directory, HeldOut, heldOut),
            WriteHeldOut(directory, Probe, probe),
        ];
        var benchmark = heldOut.ConvertAll(h => h.Task);
        var manifest = new NanoManifest(
            options, files, NanoDecontamination.Check(stage1, benchmark), NanoDecontamination.Check(stage2, benchmark));
        WriteManifest(directory, manifest);
        return manifest;
    }

    private static void Expect(bool holds, string otherwise)
    {
        if (!holds)
        {
            throw new Data.InvalidInputException(otherwise);
        }
    }

    private static NanoFile WriteTraining(
        string directory, string name, string prefix, List<NanoTask> tasks, Func<NanoTask, string> respond)
    {
        using var bytes = new MemoryStream();
        using var json = new Utf8JsonWriter(bytes, s_oneLine);
        for (var i = 0; i < tasks.Count; i++)
        {
            json.WriteStartObject();
            json.WriteString("id"u8, $"{prefix}-{i:D6}");
            json.WriteString("kind"u8, tasks[i].Kind);
            json.WriteString("question"u8, NanoQuestion.Of(tasks[i]));
            json.WriteString("response"u8, respond(tasks[i]));
            EndLine(json, bytes);
        }

        return Save(directory, name, tasks.Count, bytes);
    }

    private static NanoFile WriteHeldOut(string directory, string name, List<NanoHeldOut> problems)
    {
        using var bytes = new MemoryStream();
        using var json = new Utf8JsonWriter(bytes, s_oneLine);
        foreach (var problem in problems)
        {
            json.WriteStartObject();
            json.WriteString("task_id"u8, problem.Id);
            json.WriteString("kind"u8, problem.Task.Kind);
            json.WriteString("prompt"u8, NanoQuestion.Of(problem.Task));
            json.WriteString("entry_point"u8, problem.Task.EntryPoint);
            json.WriteString("test"u8, problem.Test);
            json.WriteString("canonical_solution"u8, NanoTeacher.Program(problem.Task));
            EndLine(json, bytes);
        }

        return Save(directory, name, problems.Count, bytes);
    }

    private static void EndLine(Utf8JsonWriter json, MemoryStream bytes)
    {
        json.WriteEndObject();
        json.Flush();
        json.Reset();
        bytes.WriteByte((byte)'\n');
    }

    private static NanoFile Save(string directory, string name, int records, MemoryStream bytes)
    {
        var span = bytes.GetBuffer().AsSpan(0, (int)bytes.Length);
        File.WriteAllBytes(Path.Combine(directory, name), span);
        return new NanoFile(name, records, span.Length, Convert.ToHexStringLower(SHA256.HashData(span)));
    }

    private static void WriteManifest(string directory, NanoManifest manifest)
    {
        using var bytes = new MemoryStream();
        using (var json = new Utf8JsonWriter(bytes, s_indented))
        {
            var options = manifest.Options;
            json.WriteStartObject();
            json.WriteStartObject("options"u8);
            json.WriteNumber("seed"u8, options.Seed);
            json.WriteNumber("stage1_problems"u8, options.Stage1Problems);
            json.WriteNumber("stage2_problems"u8, options.Stage2Problems);
            json.WriteNumber("stage2_plain_percent"u8, options.Stage2PlainPercent);
            json.WriteNumber("heldout_plain"u8, options.HeldOutPlain);
            json.WriteNumber("heldout_self_invoking"u8, options.HeldOutSelfInvoking);
            json.WriteNumber("probe"u8, options.Probe);
            json.WriteBoolean("worked_example"u8, options.WorkedExample);
            json.WriteEndObject();
            json.WriteString("teacher"u8, "scripted");
            json.WriteStartArray("files"u8);
            foreach (var file in manifest.Files)
            {
                json.WriteStartObject();
                json.WriteString("name"u8, file.Name);
                json.WriteNumber("records"u8, file.Records);
                json.WriteNumber("bytes"u8, file.Bytes);
                json.WriteString("sha256"u8, file.Sha256);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            WriteDecontamination(json, "stage1", manifest.Stage1);
            WriteDecontamination(json, "stage2", manifest.Stage2);
            json.WriteEndObject();
        }

        bytes.WriteByte((byte)'\n');
        File.WriteAllBytes(Path.Combine(directory, Manifest), bytes.ToArray());
    }

    private static void WriteDecontamination(Utf8JsonWriter json, string stage, NanoDecontamination found)
    {
        json.WriteStartObject($"decontamination_{stage}");
        json.WriteNumber("training"u8, found.Training);
        json.WriteNumber("held_out"u8, found.HeldOut);
        json.WriteNumber("combination_hits"u8, found.CombinationHits);
        json.WriteNumber("constant_hits"u8, found.ConstantHits);
        json.WriteNumber("text_hits"u8, found.TextHits);
        json.WriteEndObject();
    }
}
