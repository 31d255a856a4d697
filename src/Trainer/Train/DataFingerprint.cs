using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text.Json;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Train;

/// <summary>What a stage trains on, as its checkpoints keep it. A resumed run must find the same: one sample more gives another order and another
/// schedule, and nothing else would show it.</summary>
/// <param name="Steps">of the whole stage</param>
/// <param name="Samples">to train on</param>
/// <param name="HeldOut">samples of the held-out loss</param>
/// <param name="Tokens">of both</param>
/// <param name="Sha256">over the tokens and loss spans of both, in their order</param>
public sealed record DataFingerprint(long Steps, int Samples, int HeldOut, long Tokens, string Sha256)
{
    /// <summary>Of a data set that is trained on for so many steps.</summary>
    public static DataFingerprint Of(SftDataset dataset, long steps)
    {
        ArgumentNullException.ThrowIfNull(dataset);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var tokens = 0L;
        foreach (var sample in dataset.Train.Concat(dataset.Eval))
        {
            tokens += sample.Length;
            hash.AppendData(MemoryMarshal.AsBytes<int>([sample.Length, sample.Loss.Length]));
            hash.AppendData(MemoryMarshal.AsBytes<int>(sample.Tokens));
            hash.AppendData(MemoryMarshal.AsBytes<TokenSpan>(sample.Loss));
        }

        return new DataFingerprint(steps, dataset.Train.Count, dataset.Eval.Count, tokens, Convert.ToHexStringLower(hash.GetHashAndReset()));
    }

    /// <summary>Throws where a checkpoint was made on other data; one of before this was kept may go on.</summary>
    /// <param name="then">what the checkpoint keeps</param>
    /// <param name="checkpoint">its directory</param>
    /// <exception cref="InvalidInputException">one sentence: what it was, and what it is now</exception>
    public void Expect(DataFingerprint? then, string checkpoint)
    {
        if (then is not null && then != this)
        {
            throw new InvalidInputException(
                $"{checkpoint}: made on {then}, the recipe's files now give {this}: the data, the tokenizer or its template have changed; put "
                + "them back, or begin another run (--out)");
        }
    }

    /// <inheritdoc/>
    public override string ToString() =>
        $"{Samples:N0} samples and {HeldOut:N0} held out of {Tokens:N0} tokens (SHA-256 {Sha256[..16]}) for {Steps:N0} steps";

    /// <summary>As a JSON object.</summary>
    internal void Write(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteNumber("steps", Steps);
        json.WriteNumber("samples", Samples);
        json.WriteNumber("held_out", HeldOut);
        json.WriteNumber("tokens", Tokens);
        json.WriteString("sha256", Sha256);
        json.WriteEndObject();
    }

    /// <summary>Reads what <see cref="Write"/> wrote.</summary>
    internal static DataFingerprint Read(JsonElement json) => new(
        json.GetProperty("steps").GetInt64(), json.GetProperty("samples").GetInt32(), json.GetProperty("held_out").GetInt32(),
        json.GetProperty("tokens").GetInt64(), json.GetProperty("sha256").GetString()!);
}
