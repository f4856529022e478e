// Package envtest starts a real kube-apiserver on the server under test the way that controller-runtime's envtest does
// it: as a program called etcd beside kube-apiserver, with envtest's own flags. run.sh says where they are.
package envtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

const (
	objects = 100
	waitMax = 60 * time.Second
)

var widgetKind = schema.GroupVersionKind{Group: "kontiki.test", Version: "v1", Kind: "Widget"}

func widgetDefinition() *apiextensionsv1.CustomResourceDefinition {
	preserve := true
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "widgets.kontiki.test"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: widgetKind.Group,
			Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{
				Plural: "widgets", Singular: "widget", Kind: "Widget", ListKind: "WidgetList",
			},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{
					OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &preserve},
				},
			}},
		},
	}
}

// TestAPIServer creates, changes, lists in pages, watches and deletes objects of a built-in and of a custom resource.
func TestAPIServer(t *testing.T) {
	environment := &envtest.Environment{CRDs: []*apiextensionsv1.CustomResourceDefinition{widgetDefinition()}}
	config, err := environment.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := environment.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	config.QPS, config.Burst = 1000, 1000
	api, err := client.NewWithWatch(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()

	t.Run("configmaps", func(t *testing.T) {
		lifecycle(ctx, t, api, &corev1.ConfigMapList{}, func(name string) client.Object {
			return &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
				Data:       map[string]string{"key": name},
			}
		})
	})
	t.Run("custom resources", func(t *testing.T) {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(widgetKind.GroupVersion().WithKind("WidgetList"))
		lifecycle(ctx, t, api, list, func(name string) client.Object {
			widget := &unstructured.Unstructured{}
			widget.SetGroupVersionKind(widgetKind)
			widget.SetNamespace("default")
			widget.SetName(name)
			return widget
		})
	})
	t.Run("events expire by lease", func(t *testing.T) {
		event := &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Namespace: "default", Name: "leased"},
			InvolvedObject: corev1.ObjectReference{Namespace: "default"},
		}
		if err := api.Create(ctx, event); err != nil {
			t.Fatal(err)
		}
	})
}

// lifecycle takes objects of one kind through all that an API server asks of its store, and counts what a watch tells.
func lifecycle(ctx context.Context, t *testing.T, api client.WithWatch, list client.ObjectList, object func(string) client.Object) {
	mine := client.MatchingLabels{"by": "kontiki"}
	watcher, err := api.Watch(ctx, list, client.InNamespace("default"), mine)
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	var made []client.Object
	for number := range objects {
		one := object(fmt.Sprintf("object-%03d", number))
		one.SetLabels(mine)
		if err := api.Create(ctx, one); err != nil {
			t.Fatal(err)
		}
		made = append(made, one)
	}
	if err := api.Create(ctx, object("object-000")); !apierrors.IsAlreadyExists(err) {
		t.Errorf("a second create: %v", err)
	}

	stale := made[0].DeepCopyObject().(client.Object)
	for _, one := range made {
		one.SetAnnotations(map[string]string{"changed": "yes"})
		if err := api.Update(ctx, one); err != nil {
			t.Fatal(err)
		}
	}
	if err := api.Update(ctx, stale); !apierrors.IsConflict(err) {
		t.Errorf("an update of an old version: %v", err)
	}

	pages, next, found := 0, "", 0
	for {
		page := list.DeepCopyObject().(client.ObjectList)
		err := api.List(ctx, page, client.InNamespace("default"), mine, client.Limit(objects/4), client.Continue(next))
		if err != nil {
			t.Fatal(err)
		}
		pages++
		found += count(t, page)
		if next = page.GetContinue(); next == "" {
			break
		}
	}
	if found != objects || pages != 4 {
		t.Errorf("%d objects in %d pages", found, pages)
	}

	for _, one := range made {
		if err := api.Delete(ctx, one); err != nil {
			t.Fatal(err)
		}
	}
	told := map[watch.EventType]int{}
	for told[watch.Deleted] < objects {
		select {
		case event, open := <-watcher.ResultChan():
			if !open {
				t.Fatalf("the watch ended after %v", told)
			}
			told[event.Type]++
		case <-ctx.Done():
			t.Fatalf("the watch told only %v", told)
		}
	}
	if told[watch.Added] != objects || told[watch.Modified] != objects || len(told) != 3 {
		t.Errorf("the watch told %v", told)
	}
}

func count(t *testing.T, list client.ObjectList) int {
	switch list := list.(type) {
	case *corev1.ConfigMapList:
		return len(list.Items)
	case *unstructured.UnstructuredList:
		return len(list.Items)
	}
	t.Fatalf("%T is unknown here", list)
	return 0
}
