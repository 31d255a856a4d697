using System.Text.Json;
using Z1Coder.Trainer.Data.Journal;

namespace Z1Coder.Trainer.Curation.Teacher;

/// <summary>
/// What decides an answer of a teacher besides the item itself: the verb, the model, the endpoint, each prompt file with its hash, the decoding
/// parameters, and options of the verb that change the request.
/// </summary>
public sealed class RequestFingerprint : Fingerprint
{
    /// <summary>The fingerprint of one run.</summary>
    /// <param name="verb">such as trajectories</param>
    /// <param name="model">the model's name on the server; empty for a verb that asks nothing</param>
    /// <param name="api">which endpoint</param>
    /// <param name="prompts">the files that the requests are made from</param>
    /// <param name="decoding">how the teacher decodes</param>
    /// <param name="options">options of the verb that change what is asked or kept, with their values</param>
    public RequestFingerprint(
        string verb, string model, TeacherApi api, IReadOnlyList<PromptFile> prompts, DecodingParameters decoding,
        params IReadOnlyList<(string Name, string Value)> options)
        : base(json => Write(json, verb, model, api, prompts, decoding, options))
    {
    }

    private static void Write(
        Utf8JsonWriter json, string verb, string model, TeacherApi api, IReadOnlyList<PromptFile> prompts, DecodingParameters decoding,
        IReadOnlyList<(string Name, string Value)> options)
    {
        json.WriteString("verb", verb);
        json.WriteString("model", model);
        json.WriteString("api", api == TeacherApi.Chat ? "chat" : "completions");
        foreach (var prompt in prompts)
        {
            json.WriteString($"prompt {prompt.Name}", prompt.Sha256);
        }

        decoding.WriteTo(json);
        foreach (var (name, value) in options)
        {
            json.WriteString(name, value);
        }
    }
}
